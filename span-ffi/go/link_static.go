//go:build span_static

package span

// With the tag span_static the library becomes part of the program.

// #cgo pkg-config: span-static
import "C"
