// Goroutines on several threads, a child command, timers and the collector.
package main

import (
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

var garbage []byte

func main() {
	var group sync.WaitGroup
	var total atomic.Int64
	for i := 0; i < 100; i++ {
		group.Add(1)
		go func(n int64) {
			defer group.Done()
			runtime.LockOSThread()
			total.Add(n)
			runtime.UnlockOSThread()
		}(int64(i))
	}
	group.Wait()
	fmt.Println("goroutines", total.Load())

	out, err := exec.Command("/bin/echo", "child").Output()
	fmt.Print(string(out))
	fmt.Println("error", err)

	<-time.After(10 * time.Millisecond)
	fmt.Println("timer")

	for i := 0; i < 2000; i++ {
		garbage = make([]byte, 64*1024)
	}
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Println("collected", stats.NumGC > 0)
}
