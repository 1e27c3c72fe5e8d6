// Package notify turns PostgreSQL's NOTIFY into wake-ups inside the process.
// One connection listens for all; rows are the truth and a ring says only that
// some may have changed, so rings may be merged, and after a lost connection
// everything rings.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// channel is the one that the store announces changes on.
const channel = "portolan"

const (
	connectTimeout = 10 * time.Second
	// A connection that says nothing is asked for life after probeAfter: the
	// network between may drop it without a word.
	probeAfter   = 15 * time.Second
	probeTimeout = 5 * time.Second
	backoffFirst = 50 * time.Millisecond
	backoffMost  = 2 * time.Second
)

// Bell lets any number of readers wait for changes by topic.
type Bell struct {
	config *pgx.ConnConfig
	logger *slog.Logger
	stop   context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	topics map[string]map[*subscription]struct{}
}

type subscription struct {
	ring chan struct{}
}

// Listen connects and listens until ctx ends or Close is called. Later losses
// of the connection are mended by itself and logged.
func Listen(ctx context.Context, connString string, logger *slog.Logger) (*Bell, error) {
	// By the pool's parser, which knows the settings of a pool that the address may hold.
	pool, err := pgxpool.ParseConfig(connString)
	if err != nil {
		// The parser's text may repeat the address, password and all.
		return nil, errors.New("notify: the database's address cannot be understood")
	}
	config := pool.ConnConfig
	config.RuntimeParams["application_name"] = "portolan-notify"
	config.ConnectTimeout = connectTimeout
	b := &Bell{config: config, logger: logger, ended: make(chan struct{}), topics: map[string]map[*subscription]struct{}{}}
	conn, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	ctx, b.stop = context.WithCancel(ctx)
	go b.run(ctx, conn)
	return b, nil
}

// Close stops listening and returns once the connection is closed. Subscribers
// keep their channels, which ring no more.
func (b *Bell) Close() {
	b.stop()
	<-b.ended
}

// Subscribe returns a channel that receives after topic was rung. Rings that
// come before the last one was received are merged into it. stop ends the
// subscription; the channel is never closed. The reader subscribes first and
// reads the rows afterwards, so that nothing falls between.
func (b *Bell) Subscribe(topic string) (ring <-chan struct{}, stop func()) {
	s := &subscription{ring: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	subscribers := b.topics[topic]
	if subscribers == nil {
		subscribers = map[*subscription]struct{}{}
		b.topics[topic] = subscribers
	}
	subscribers[s] = struct{}{}
	return s.ring, sync.OnceFunc(func() { b.unsubscribe(topic, s) })
}

func (b *Bell) unsubscribe(topic string, s *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.topics[topic], s)
	if len(b.topics[topic]) == 0 {
		delete(b.topics, topic)
	}
}

// run hears the notifications of conn, and of those that follow it, until ctx
// ends.
func (b *Bell) run(ctx context.Context, conn *pgx.Conn) {
	defer close(b.ended)
	for {
		err := b.hear(ctx, conn)
		b.close(conn)
		if ctx.Err() != nil {
			return
		}
		b.logger.WarnContext(ctx, "lost the connection that listens for changes", "err", err)
		if conn = b.reconnect(ctx); conn == nil {
			return
		}
		b.logger.InfoContext(ctx, "listening for changes again")
		b.ringAll() // what was announced meanwhile was missed
	}
}

// hear rings for every notification until the connection fails.
func (b *Bell) hear(ctx context.Context, conn *pgx.Conn) error {
	for {
		wait, cancel := context.WithTimeout(ctx, probeAfter)
		n, err := conn.WaitForNotification(wait)
		quiet := wait.Err() != nil
		cancel()
		switch {
		case err == nil:
			b.ring(n.Payload)
		case ctx.Err() != nil:
			return ctx.Err()
		case quiet && !conn.IsClosed():
			if err := b.probe(ctx, conn); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (b *Bell) probe(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return conn.Ping(ctx)
}

func (b *Bell) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, b.config.Copy())
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		b.close(conn)
		return nil, fmt.Errorf("notify: %w", err)
	}
	return conn, nil
}

// reconnect tries until it succeeds, or returns nil when ctx ends.
func (b *Bell) reconnect(ctx context.Context) *pgx.Conn {
	for wait := backoffFirst; ; wait = min(2*wait, backoffMost) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		conn, err := b.connect(ctx)
		if err == nil {
			return conn
		}
		b.logger.DebugContext(ctx, "cannot listen for changes yet", "err", err)
	}
}

// close says goodbye, unless the other side no longer listens.
func (b *Bell) close(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // there is nothing left to lose
}

func (b *Bell) ring(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.topics[topic] {
		s.wake()
	}
}

func (b *Bell) ringAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, subscribers := range b.topics {
		for s := range subscribers {
			s.wake()
		}
	}
}

func (s *subscription) wake() {
	select {
	case s.ring <- struct{}{}:
	default: // it has not come to hear the last one yet
	}
}
