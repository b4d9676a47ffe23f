//go:build !span_static

package span

// #cgo pkg-config: span
import "C"
