package wireguard

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"span"
)

// A clock goes on while the machine sleeps, so that sessions age then too.
type clock struct{ start time.Duration }

func newClock() clock { return clock{bootTime()} }

func (c clock) now() time.Duration { return bootTime() - c.start }

func bootTime() time.Duration {
	var now unix.Timespec
	// A clock that Linux has had since 2.6.39.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return time.Duration(now.Nano())
}

// A timer lets one goroutine sleep until the tunnel wants it, which others may bring forward.
type timer struct {
	// The time for which the goroutine sleeps; the end of time while it is awake and about to ask.
	armed atomic.Int64
	woken chan struct{}
	ended chan struct{}
	once  sync.Once
}

func (t *timer) init() {
	t.woken = make(chan struct{}, 1)
	t.ended = make(chan struct{})
	t.armed.Store(math.MaxInt64)
}

// sleep sleeps until the time that next returns, and returns false at the end.
func (t *timer) sleep(clock clock, next func() time.Duration) bool {
	for {
		// Whatever comes from now on counts as earlier than what is found here.
		t.armed.Store(math.MaxInt64)
		when := next()
		t.armed.Store(int64(when))
		wait := when - clock.now()
		if wait <= 0 {
			select {
			case <-t.ended:
				return false
			default:
				return true
			}
		}
		if when == span.Never {
			wait = math.MaxInt64
		}
		select {
		case <-time.After(wait):
			return true
		case <-t.woken:
			// To ask again.
		case <-t.ended:
			return false
		}
	}
}

// rearm wakes the goroutine if it sleeps for longer than that.
func (t *timer) rearm(when time.Duration) {
	if int64(when) < t.armed.Load() {
		t.wake()
	}
}

func (t *timer) wake() {
	select {
	case t.woken <- struct{}{}:
	default:
	}
}

func (t *timer) end() { t.once.Do(func() { close(t.ended) }) }
