package main

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"
)

type kafkaGo struct {
	config
	writer *kafka.Writer
	client *kafka.Client
}

func newKafkaGo(conf config) (client, error) {
	address := kafka.TCP(conf.brokers...)
	writer := &kafka.Writer{
		Addr: address, Topic: conf.topic, Balancer: &kafka.Hash{}, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond,
	}
	return &kafkaGo{conf, writer, &kafka.Client{Addr: address, Timeout: 10 * time.Second}}, nil
}

func (k *kafkaGo) create(ctx context.Context) error {
	wanted := kafka.TopicConfig{Topic: k.topic, NumPartitions: partitions, ReplicationFactor: 2}
	answer, err := k.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}})
	if err != nil {
		return err
	}
	return answer.Errors[k.topic]
}

// It has no idempotence: what it sends again may be there twice.
func (k *kafkaGo) produce(ctx context.Context, key, value string) error {
	return k.writer.WriteMessages(ctx, kafka.Message{Key: []byte(key), Value: []byte(value)})
}

func (k *kafkaGo) consume(ctx context.Context, saw func(key, value string)) error {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: k.brokers, GroupID: k.group, Topic: k.topic, StartOffset: kafka.FirstOffset,
		MaxWait: 500 * time.Millisecond, HeartbeatInterval: 500 * time.Millisecond, SessionTimeout: 10 * time.Second,
	})
	for ctx.Err() == nil {
		record, err := reader.FetchMessage(ctx)
		if err == nil {
			saw(string(record.Key), string(record.Value))
			err = reader.CommitMessages(ctx, record)
		}
		if err != nil && ctx.Err() == nil {
			fprint("kafka-go: %v", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
	return reader.Close()
}

func (k *kafkaGo) lag(ctx context.Context) (int64, error) {
	all, ends := []int{}, []kafka.OffsetRequest{}
	for partition := range partitions {
		all = append(all, partition)
		ends = append(ends, kafka.LastOffsetOf(partition))
	}
	wanted := kafka.OffsetFetchRequest{GroupID: k.group, Topics: map[string][]int{k.topic: all}}
	committed, err := k.client.OffsetFetch(ctx, &wanted)
	if err = errors.Join(err); err != nil {
		return 0, err
	}
	listed, err := k.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{k.topic: ends}})
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, end := range listed.Topics[k.topic] {
		total += end.LastOffset
	}
	for _, partition := range committed.Topics[k.topic] {
		total -= max(partition.CommittedOffset, 0)
	}
	return total, errors.Join(committed.Error)
}
