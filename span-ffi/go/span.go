// Package span is Span for Go: WireGuard and encrypted meshes in user space.
//
// It is a thin layer over libspan, which must be installed where pkg-config finds it. With the build tag
// span_static the library becomes part of the program.
//
// What is made is closed by hand: nothing of the library is freed by the garbage collector.
package span

/*
#include <span.h>
*/
import "C"

import (
	"errors"
	"fmt"
)

// A Status is the reason why the library did not do what it was asked for. It is an error.
type Status uint32

// The statuses of the library. Their numbers never change.
const (
	ErrNull        Status = C.SPAN_STATUS_NULL
	ErrMisaligned  Status = C.SPAN_STATUS_MISALIGNED
	ErrStructSize  Status = C.SPAN_STATUS_STRUCT_SIZE
	ErrUnsupported Status = C.SPAN_STATUS_UNSUPPORTED
	ErrInvalid     Status = C.SPAN_STATUS_INVALID
	ErrKeyText     Status = C.SPAN_STATUS_KEY_TEXT
	ErrAddressText Status = C.SPAN_STATUS_ADDRESS_TEXT
	ErrPrefixText  Status = C.SPAN_STATUS_PREFIX_TEXT
	ErrUnknownPeer Status = C.SPAN_STATUS_UNKNOWN_PEER
	ErrOwnKey      Status = C.SPAN_STATUS_OWN_KEY
	ErrNoRoom      Status = C.SPAN_STATUS_NO_ROOM
	ErrBusy        Status = C.SPAN_STATUS_BUSY
	ErrPanicked    Status = C.SPAN_STATUS_PANICKED
	ErrEntropy     Status = C.SPAN_STATUS_ENTROPY
)

// ErrClosed is returned by everything that is used after it was closed.
var ErrClosed = errors.New("span: closed")

// Error says in English what the status means.
func (s Status) Error() string {
	return "span: " + C.GoString(C.span_status_text(C.uint32_t(s)))
}

// Version returns the version of the library, such as "0.1.0".
func Version() string {
	return C.GoString(C.span_version())
}

func init() {
	if abi := uint32(C.span_abi_version()); abi != C.SPAN_ABI_VERSION {
		panic(fmt.Sprintf("span: built for version %d of libspan's interface, and found %d", C.SPAN_ABI_VERSION, abi))
	}
}

// status makes an error of what a call returned, nil if it succeeded.
func status(code C.span_status) error {
	if code == C.SPAN_STATUS_OK {
		return nil
	}
	return Status(code)
}
