// A ledger kept by a client of Kafka that nobody here wrote: what was acknowledged is read, in order, whatever fails
// meanwhile.
//
// Usage: clients CLIENT BOOTSTRAP TOPIC GROUP, or as login.go has it
//
// CLIENT is franz-go, sarama, sarama-newest or kafka-go. Makes the topic, with six partitions; writes numbered records of
// eight keys, and reads them in a group of two that commits. Says `ready` once both members have read something. Goes on
// until its input ends; then every record must have been read, per key in order, and the group must have no lag.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	partitions = 6
	keys       = 8
	members    = 2
)

type client interface {
	create(ctx context.Context) error
	// Returns once the record is acknowledged.
	produce(ctx context.Context, key, value string) error
	// Reads as one member of the group until the context ends, then leaves.
	consume(ctx context.Context, saw func(key, value string)) error
	lag(ctx context.Context) (int64, error)
}

type config struct {
	brokers      []string
	topic, group string
}

type ledger struct {
	mutex sync.Mutex
	// Per key: how many are acknowledged, and the next one that is to be read.
	acked, next map[string]int
	// Records that were read once more, as after a rebalance.
	again int
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

func (l *ledger) saw(key, value string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	number, err := strconv.Atoi(value)
	switch {
	case err != nil:
		fail("%s: %q is none of ours", key, value)
	case number > l.next[key]:
		fail("%s: %d comes, %d was never read", key, number, l.next[key])
	case number == l.next[key]:
		l.next[key]++
	default:
		l.again++
	}
}

func (l *ledger) counts() (acked, seen int) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for key, count := range l.acked {
		acked += count
		seen += l.next[key]
	}
	return
}

func waitUntil(what string, limit time.Duration, holds func() bool) {
	for began := time.Now(); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > limit {
			fail("not within %v: %s", limit, what)
		}
	}
}

func main() {
	if len(os.Args) == 6 && strings.HasPrefix(os.Args[1], "login-") {
		login(os.Args[1], os.Args[2:])
		return
	}
	if len(os.Args) != 5 {
		fail("usage: clients CLIENT BOOTSTRAP TOPIC GROUP")
	}
	conf := config{strings.Split(os.Args[2], ","), os.Args[3], os.Args[4]}
	made, err := map[string]func(config) (client, error){
		"franz-go":      newFranz,
		"sarama":        newSarama,
		"sarama-newest": newSaramaNewest,
		"kafka-go":      newKafkaGo,
	}[os.Args[1]](conf)
	if err != nil {
		fail("%v", err)
	}
	ctx, end := context.WithCancel(context.Background())
	if err := made.create(ctx); err != nil {
		fail("the topic is not made: %v", err)
	}

	book := &ledger{acked: map[string]int{}, next: map[string]int{}}
	var reading, writing sync.WaitGroup
	read := make([]int, members)
	for member := range members {
		reading.Go(func() {
			err := made.consume(ctx, func(key, value string) {
				book.saw(key, value)
				book.mutex.Lock()
				read[member]++
				book.mutex.Unlock()
			})
			if err != nil {
				fail("a member: %v", err)
			}
		})
	}
	over := make(chan struct{})
	for key := range keys {
		writing.Go(func() {
			key := fmt.Sprintf("key-%d", key)
			for number := 0; ; number++ {
				select {
				case <-over:
					return
				case <-time.After(10 * time.Millisecond):
				}
				if err := made.produce(ctx, key, strconv.Itoa(number)); err != nil {
					fail("%s: %d is refused: %v", key, number, err)
				}
				book.mutex.Lock()
				book.acked[key] = number + 1
				book.mutex.Unlock()
			}
		})
	}
	waitUntil("both members read", 60*time.Second, func() bool {
		book.mutex.Lock()
		defer book.mutex.Unlock()
		return read[0] > 0 && read[1] > 0
	})
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	close(over)
	writing.Wait()
	waitUntil("everything is read", 60*time.Second, func() bool {
		acked, seen := book.counts()
		return acked == seen
	})
	last := int64(-1)
	waitUntil("no lag is left", 30*time.Second, func() bool {
		lag, err := made.lag(ctx)
		if err != nil {
			fprint("lag: %v", err)
			return false
		}
		last = lag
		return lag == 0
	})
	end()
	reading.Wait()
	acked, _ := book.counts()
	fmt.Printf("ok: %d records, %d of them read again, lag %d\n", acked, book.again, last)
}

func fprint(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
}
