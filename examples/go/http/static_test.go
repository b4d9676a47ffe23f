//go:build span_static

package main

import (
	"debug/elf"
	"os"
	"slices"
	"testing"
)

// A program that carries all it needs, the C library too, runs on any Linux.
func init() {
	flags = []string{"-tags", "span_static,netgo,osusergo", "-ldflags", "-linkmode external -extldflags -static"}
	built = func(t *testing.T, program string) {
		if interpreter, libraries := linked(t, program); interpreter || len(libraries) != 0 {
			t.Errorf("it is linked to %v", libraries)
		}
	}
}

// With the tag alone, it carries libspan and is linked to the C library. This test is such a program.
func TestTheLibraryIsPartOfTheProgram(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, libraries := linked(t, own)
	if !slices.Contains(libraries, "libc.so.6") || slices.Contains(libraries, "libspan.so.0") {
		t.Errorf("it is linked to %v", libraries)
	}
}

// linked says what a program needs to run, as ldd does: whether there is a dynamic linker, and the libraries.
func linked(t *testing.T, program string) (interpreter bool, libraries []string) {
	t.Helper()
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	libraries, err = file.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(file.Progs, func(part *elf.Prog) bool { return part.Type == elf.PT_INTERP }), libraries
}
