// Package cycles proves that nodes that come and go leave nothing behind. Alone in its package, because it counts what
// the whole process has.
package cycles

import (
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"span/internal/meshtest"
)

const (
	// Pairs of nodes: as many starts and stops again.
	cycles = 500
	// Until then the allocators and the libraries have what they keep.
	warmUp = 100
	// Memory that may be there more at the end, in KiB: an allocator never gives everything back. Nodes that left no
	// more than one buffer of 64 KiB behind would make it 50 MiB.
	slack = 16 << 10
	// Go keeps the threads that it once needed.
	spare = 16
)

func TestAThousandNodesLeaveNothing(t *testing.T) {
	var before remains
	for cycle := range cycles {
		t.Run("", func(t *testing.T) { talk(t, cycle) })
		if cycle == warmUp {
			before = count(t)
		}
	}
	var now remains
	for deadline := time.Now().Add(meshtest.Patience); ; time.Sleep(20 * time.Millisecond) {
		now = count(t)
		if now.goroutines <= before.goroutines && now.descriptors <= before.descriptors && now.threads <= before.threads+spare {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, before %+v", now, before)
		}
	}
	t.Logf("%+v, before %+v", now, before)
	if now.memory > before.memory+slack {
		t.Fatalf("%+v, before %+v", now, before)
	}
}

type remains struct{ goroutines, descriptors, threads, memory int }

func count(t *testing.T) remains {
	t.Helper()
	debug.FreeOSMemory()
	list := func(directory string) int {
		entries, err := os.ReadDir(directory)
		meshtest.Check(t, err)
		return len(entries)
	}
	file, err := os.Open("/proc/self/status")
	meshtest.Check(t, err)
	defer file.Close()
	text, err := io.ReadAll(file)
	meshtest.Check(t, err)
	_, resident, _ := strings.Cut(string(text), "VmRSS:")
	memory, err := strconv.Atoi(strings.Fields(resident)[0])
	meshtest.Check(t, err)
	return remains{runtime.NumGoroutine(), list("/proc/self/fd"), list("/proc/self/task"), memory}
}

// talk starts two nodes, lets them talk, and ends them while connections are open, or after.
func talk(t *testing.T, cycle int) {
	alice, bob := meshtest.Pair(t)
	client, server := meshtest.Conns(t, alice, bob)
	_, err := client.Write([]byte("x"))
	meshtest.Check(t, err)
	_, err = io.ReadFull(server, make([]byte, 1))
	meshtest.Check(t, err)
	if cycle%2 == 0 {
		meshtest.Check(t, alice.Close())
	}
	meshtest.Check(t, client.Close())
	meshtest.Check(t, server.Close())
}
