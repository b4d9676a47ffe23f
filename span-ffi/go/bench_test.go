package span

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// Batches timed together, few enough to stay in the cache, as cargo bench -p span-ffi does, which prints the figures for
// batches of 32 beside those of Rust and C.
const batches = 4

// The best round of sealing and of opening, in ns for a packet, by the length of packets and the size of batches.
func BenchmarkBatches(b *testing.B) {
	for _, length := range []int{64, 512, 1420} {
		for _, size := range []int{1, 8, 32, 128} {
			b.Run(fmt.Sprintf("%d/%d", length, size), func(b *testing.B) { benchmark(b, length, size) })
		}
	}
}

func benchmark(b *testing.B, length, size int) {
	alice, bob, peer := pair(b)
	stride := DatagramLen(length, 0)
	memory, packets := make([]byte, batches*size*stride), make([]Packet, size)
	bestSeal, bestOpen := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	// Telling of each packet what it is belongs to the work.
	each := func(work func(now time.Duration, arena []byte, packets []Packet) (int, error), template Packet) time.Duration {
		start := time.Now()
		for batch := range batches {
			for i := range packets {
				packets[i] = template
				packets[i].At += uint32(i * stride)
			}
			n, err := work(0, memory[batch*size*stride:][:size*stride], packets)
			if n != size || err != nil {
				b.Fatal(n, err)
			}
		}
		return time.Since(start)
	}
	sealing := Packet{At: Headroom, Len: uint32(length), Peer: peer}
	opening := Packet{Len: uint32(stride), Path: aliceAt}
	for b.Loop() {
		for at := 0; at < len(memory); at += stride {
			header(memory[at+Headroom:], length)
		}
		bestSeal = min(bestSeal, each(alice.Seal, sealing))
		bestOpen = min(bestOpen, each(bob.Open, opening))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(bestSeal.Nanoseconds())/float64(batches*size), "seal-ns/packet")
	b.ReportMetric(float64(bestOpen.Nanoseconds())/float64(batches*size), "open-ns/packet")
}

// A call that has nothing to do: what it costs to go to the library and back.
func BenchmarkEmptyCall(b *testing.B) {
	alice, _, _ := pair(b)
	arena := make([]byte, 64)
	b.Run("Seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := alice.Seal(0, arena, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("NextTimeout", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := alice.NextTimeout(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
