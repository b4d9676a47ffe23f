package span

/*
#include <span.h>
*/
import "C"

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// An Error is the reason why the library did not do what it was asked for. Those that the operating system has too are
// also its errors: errors.Is(err, syscall.ECONNREFUSED) holds for [ErrRefused].
type Error uint32

// The errors of the library. Their numbers never change.
const (
	ErrNull                Error = C.SPAN_STATUS_NULL                  // a pointer is missing
	ErrMisaligned          Error = C.SPAN_STATUS_MISALIGNED            // a pointer is not aligned
	ErrStructSize          Error = C.SPAN_STATUS_STRUCT_SIZE           // a struct has an impossible size
	ErrUnsupported         Error = C.SPAN_STATUS_UNSUPPORTED           // the installed library is too old for that
	ErrInvalid             Error = C.SPAN_STATUS_INVALID               // an argument is out of its range
	ErrKeyText             Error = C.SPAN_STATUS_KEY_TEXT              // the text is not a key
	ErrAddressText         Error = C.SPAN_STATUS_ADDRESS_TEXT          // the text is not an address with its port
	ErrPrefixText          Error = C.SPAN_STATUS_PREFIX_TEXT           // the text is not a prefix
	ErrUnknownPeer         Error = C.SPAN_STATUS_UNKNOWN_PEER          // no such peer, or it was removed
	ErrOwnKey              Error = C.SPAN_STATUS_OWN_KEY               // a tunnel cannot be its own peer
	ErrNoRoom              Error = C.SPAN_STATUS_NO_ROOM               // the memory lent is too small
	ErrBusy                Error = C.SPAN_STATUS_BUSY                  // another thread is in a call with the same
	ErrPanicked            Error = C.SPAN_STATUS_PANICKED              // the library met a bug of its own
	ErrEntropy             Error = C.SPAN_STATUS_ENTROPY               // the operating system gave no randomness
	ErrAgain               Error = C.SPAN_STATUS_AGAIN                 // it would have to wait
	ErrStopped             Error = C.SPAN_STATUS_STOPPED               // the node has stopped; also net.ErrClosed
	ErrNotStarted          Error = C.SPAN_STATUS_NOT_STARTED           // the node is not started
	ErrConfig              Error = C.SPAN_STATUS_CONFIG                // the configuration cannot be used
	ErrStart               Error = C.SPAN_STATUS_START                 // the node did not start
	ErrNoNetstack          Error = C.SPAN_STATUS_NO_NETSTACK           // the node was made without NodeConfig.Netstack
	ErrRefused             Error = C.SPAN_STATUS_REFUSED               // nobody listens there; ECONNREFUSED
	ErrReset               Error = C.SPAN_STATUS_RESET                 // the peer ended it at once; ECONNRESET
	ErrUnreachable         Error = C.SPAN_STATUS_UNREACHABLE           // there is no way there; EHOSTUNREACH
	ErrTimedOut            Error = C.SPAN_STATUS_TIMED_OUT             // no answer in time; ETIMEDOUT
	ErrAddressInUse        Error = C.SPAN_STATUS_ADDRESS_IN_USE        // the address is taken; EADDRINUSE
	ErrAddressNotAvailable Error = C.SPAN_STATUS_ADDRESS_NOT_AVAILABLE // not the node's; EADDRNOTAVAIL
	ErrQuota               Error = C.SPAN_STATUS_QUOTA                 // as many connections as there may be
	ErrBrokenPipe          Error = C.SPAN_STATUS_BROKEN_PIPE           // writing after CloseWrite; EPIPE
	ErrNotConnected        Error = C.SPAN_STATUS_NOT_CONNECTED         // the connection is not open; ENOTCONN
	ErrFailed              Error = C.SPAN_STATUS_FAILED                // the operating system, or something else, failed
)

// ErrClosed is returned by everything that is used after it was closed. It is a [net.ErrClosed].
var ErrClosed error = closedError{}

type closedError struct{}

func (closedError) Error() string        { return "span: closed" }
func (closedError) Is(target error) bool { return target == net.ErrClosed }

// Error says in English what it means.
func (e Error) Error() string {
	return "span: " + C.GoString(C.span_status_text(C.uint32_t(e)))
}

// Is says whether this is what the target, an error of the operating system or of package net, means.
func (e Error) Is(target error) bool {
	same, ok := system[e]
	return ok && target == same
}

var system = map[Error]error{
	ErrStopped:             net.ErrClosed,
	ErrRefused:             syscall.ECONNREFUSED,
	ErrReset:               syscall.ECONNRESET,
	ErrUnreachable:         syscall.EHOSTUNREACH,
	ErrTimedOut:            syscall.ETIMEDOUT,
	ErrAddressInUse:        syscall.EADDRINUSE,
	ErrAddressNotAvailable: syscall.EADDRNOTAVAIL,
	ErrBrokenPipe:          syscall.EPIPE,
	ErrNotConnected:        syscall.ENOTCONN,
}

// Timeout says whether the error is one of time, as [net.Error] has it.
func (e Error) Timeout() bool { return e == ErrTimedOut }

// Temporary is there for [net.Error].
func (e Error) Temporary() bool { return e == ErrAgain || e == ErrTimedOut }

// A ConfigError says why a node could not be made or started.
type ConfigError struct {
	// Err is ErrConfig or ErrStart.
	Err Error
	// Text says what is wrong, and what to do.
	Text string
}

func (e *ConfigError) Error() string { return "span: " + e.Text }

// Unwrap returns Err.
func (e *ConfigError) Unwrap() error { return e.Err }

// result makes an error of what a call returned, nil if it succeeded.
func result(code C.span_status) error {
	if code == C.SPAN_STATUS_OK {
		return nil
	}
	return Error(code)
}

// asNet makes an error that package net and its users know of ours.
func asNet(err error) error {
	switch {
	case err == ErrClosed, errors.Is(err, os.ErrClosed):
		return net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	}
	return err
}
