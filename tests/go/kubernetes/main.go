// Decodes manifests strictly into the types of Kubernetes' API and prints them as one JSON array:
//
//	kubernetes FILE...
//
// A field that the API does not have, one that is there twice, or a value of another type is an error.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// New objects of what the manifests may hold.
var kinds = map[metav1.TypeMeta]func() any{
	{APIVersion: "v1", Kind: "Namespace"}:      func() any { return new(corev1.Namespace) },
	{APIVersion: "v1", Kind: "Pod"}:            func() any { return new(corev1.Pod) },
	{APIVersion: "v1", Kind: "Secret"}:         func() any { return new(corev1.Secret) },
	{APIVersion: "apps/v1", Kind: "DaemonSet"}: func() any { return new(appsv1.DaemonSet) },
}

func main() {
	objects := []any{}
	for _, file := range os.Args[1:] {
		text, err := os.ReadFile(file)
		check(file, err)
		documents := kubeyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			check(file, err)
			var kind metav1.TypeMeta
			check(file, yaml.Unmarshal(document, &kind))
			make, known := kinds[kind]
			if !known {
				check(file, fmt.Errorf("no kind this program knows: %+v", kind))
			}
			object := make()
			check(file, yaml.UnmarshalStrict(document, object))
			objects = append(objects, object)
		}
	}
	check("standard output", json.NewEncoder(os.Stdout).Encode(objects))
}

func check(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}
