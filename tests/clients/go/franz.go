package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type franz struct {
	config
	// Idempotent, as it is unless one says otherwise.
	producer *kgo.Client
}

func newFranz(conf config) (client, error) {
	producer, err := kgo.NewClient(kgo.SeedBrokers(conf.brokers...), kgo.DefaultProduceTopic(conf.topic))
	return &franz{conf, producer}, err
}

func (f *franz) create(ctx context.Context) error {
	created, err := kadm.NewClient(f.producer).CreateTopic(ctx, partitions, -1, nil, f.topic)
	return errors.Join(err, created.Err)
}

func (f *franz) produce(ctx context.Context, key, value string) error {
	record := &kgo.Record{Key: []byte(key), Value: []byte(value)}
	return f.producer.ProduceSync(ctx, record).FirstErr()
}

// Cooperative, as it is unless one says otherwise.
func (f *franz) consume(ctx context.Context, saw func(key, value string)) error {
	member, err := kgo.NewClient(
		kgo.SeedBrokers(f.brokers...),
		kgo.ConsumerGroup(f.group),
		kgo.ConsumeTopics(f.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.SessionTimeout(10*time.Second),
	)
	if err != nil {
		return err
	}
	defer member.CloseAllowingRebalance()
	for ctx.Err() == nil {
		fetches := member.PollFetches(ctx)
		fetches.EachError(func(topic string, partition int32, err error) {
			if ctx.Err() == nil {
				fprint("franz-go: %s/%d: %v", topic, partition, err)
			}
		})
		fetches.EachRecord(func(record *kgo.Record) { saw(string(record.Key), string(record.Value)) })
		if err := member.CommitUncommittedOffsets(ctx); err != nil && ctx.Err() == nil {
			// Fenced, or nobody answered: whoever has the partition now goes on.
			fprint("franz-go: commit: %v", err)
		}
		member.AllowRebalance()
	}
	return nil
}

func (f *franz) lag(ctx context.Context) (int64, error) {
	lags, err := kadm.NewClient(f.producer).Lag(ctx, f.group)
	if err = errors.Join(err, lags.Error()); err != nil {
		return 0, err
	}
	return lags[f.group].Lag.Total(), nil
}
