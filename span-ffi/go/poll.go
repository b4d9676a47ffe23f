package span

/*
#include <span.h>
*/
import "C"

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// A pollable is a descriptor of the library's that Go's own poller waits on: no thread is blocked, whoever waits.
type pollable struct {
	file   *os.File
	raw    syscall.RawConn
	closed atomic.Bool
}

// newPollable takes the descriptor over.
func newPollable(fd C.int) (*pollable, error) {
	file := os.NewFile(uintptr(fd), "span")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &pollable{file: file, raw: raw}, nil
}

func (p *pollable) close() error {
	p.closed.Store(true)
	return p.file.Close()
}

// setDeadline sets when try gives up. All descriptors of the library are ones that become readable.
func (p *pollable) setDeadline(t time.Time) error {
	err := p.file.SetReadDeadline(t)
	if err != nil && p.closed.Load() {
		return ErrClosed
	}
	return err
}

// try calls until it need not wait any more, or the deadline of the descriptor is over. What the library answers with
// ErrAgain is tried again when the descriptor is readable.
func (p *pollable) try(call func() error) error {
	var result error
	err := p.raw.Read(func(uintptr) bool {
		result = call()
		return result != ErrAgain
	})
	switch {
	case err == nil:
		return result
	// What package os returns then has no name.
	case p.closed.Load():
		return ErrClosed
	}
	return err
}

// wait is try until the context is done. One at a time may have a context that can be.
func (p *pollable) wait(ctx context.Context, call func() error) error {
	if ctx.Done() == nil {
		return p.try(call)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		p.file.SetReadDeadline(time.Unix(1, 0))
		close(stopped)
	})
	err := p.try(call)
	if !stop() {
		<-stopped
		p.file.SetReadDeadline(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
