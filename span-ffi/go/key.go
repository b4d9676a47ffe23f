package span

/*
#include <span.h>
#include <stdlib.h>
*/
import "C"

import (
	"encoding/base64"
	"strings"
	"unsafe"
)

// A Key is private, public or preshared. The zero key means none.
type Key [32]byte

// GenerateKey makes a private key.
func GenerateKey() (Key, error) {
	var key Key
	err := result(C.span_key_generate(key.c()))
	return key, err
}

// GeneratePresharedKey makes a preshared key.
func GeneratePresharedKey() (Key, error) {
	var key Key
	err := result(C.span_key_generate_preshared(key.c()))
	return key, err
}

// ParseKey reads a key from 44 characters of base64 or 64 hexadecimal digits.
func ParseKey(text string) (Key, error) {
	var key Key
	if strings.IndexByte(text, 0) >= 0 {
		return key, ErrKeyText // C would see the half of it
	}
	c := C.CString(text)
	defer C.free(unsafe.Pointer(c))
	err := result(C.span_key_parse(c, key.c()))
	return key, err
}

// Public returns the public key that belongs to a private one.
func (k Key) Public() Key {
	var public Key
	// Two keys that are there: nothing can fail.
	C.span_key_public(k.c(), public.c())
	return public
}

// IsZero says whether there is none.
func (k Key) IsZero() bool { return k == Key{} }

// String returns the key in base64. That of a private or preshared key is a secret too.
func (k Key) String() string {
	return base64.StdEncoding.EncodeToString(k[:])
}

// MarshalText is String.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is ParseKey.
func (k *Key) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKey(string(text))
	return err
}

func (k *Key) c() *C.span_key {
	return (*C.span_key)(unsafe.Pointer(k))
}
