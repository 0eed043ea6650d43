package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// listPatience is how long the read of a large range may take.
const listPatience = 10 * time.Minute

// list reads every key under a prefix by one Get, and writes how many there are, how many seconds it took, and the most
// memory in KiB that this process has had since it began (0 where the system doesn't tell).
func list(ctx context.Context, client *clientv3.Client, words []string) error {
	ctx, cancel := context.WithTimeout(ctx, listPatience)
	defer cancel()
	begun := time.Now()
	response, err := client.Get(ctx, words[0], clientv3.WithPrefix())
	if err != nil {
		return err
	}
	took := time.Since(begun)
	fmt.Printf("%d %.6f %d\n", len(response.Kvs), took.Seconds(), peakKiB())
	return nil
}

// peakKiB is what Linux calls VmHWM.
func peakKiB() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		var peak int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &peak); n == 1 {
			return peak
		}
	}
	return 0
}
