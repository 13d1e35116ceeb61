package main

import (
	"context"
	"time"

	"github.com/IBM/sarama"
)

type saramaClient struct {
	config
	settings *sarama.Config
	producer sarama.SyncProducer
	client   sarama.Client
	admin    sarama.ClusterAdmin
}

// With the protocol versions that it takes unless one names a release of Kafka.
func newSarama(conf config) (client, error) { return saramaOf(conf, sarama.DefaultVersion) }

func newSaramaNewest(conf config) (client, error) { return saramaOf(conf, sarama.MaxVersion) }

func saramaOf(conf config, version sarama.KafkaVersion) (client, error) {
	settings := sarama.NewConfig()
	settings.Version = version
	settings.Producer.Idempotent = true
	settings.Producer.RequiredAcks = sarama.WaitForAll
	settings.Producer.Return.Successes = true
	settings.Net.MaxOpenRequests = 1
	settings.Consumer.Offsets.Initial = sarama.OffsetOldest
	settings.Consumer.Offsets.AutoCommit.Interval = 500 * time.Millisecond
	settings.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	made, err := sarama.NewClient(conf.brokers, settings)
	if err != nil {
		return nil, err
	}
	producer, err := sarama.NewSyncProducerFromClient(made)
	if err != nil {
		return nil, err
	}
	admin, err := sarama.NewClusterAdminFromClient(made)
	return &saramaClient{conf, settings, producer, made, admin}, err
}

func (s *saramaClient) create(context.Context) error {
	return s.admin.CreateTopic(s.topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 2}, false)
}

func (s *saramaClient) produce(_ context.Context, key, value string) error {
	record := sarama.ProducerMessage{
		Topic: s.topic, Key: sarama.StringEncoder(key), Value: sarama.StringEncoder(value),
	}
	_, _, err := s.producer.SendMessage(&record)
	return err
}

type saramaMember func(key, value string)

func (saramaMember) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (saw saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case record, more := <-claim.Messages():
			if !more {
				return nil
			}
			saw(string(record.Key), string(record.Value))
			session.MarkMessage(record, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

func (s *saramaClient) consume(ctx context.Context, saw func(key, value string)) error {
	group, err := sarama.NewConsumerGroup(s.brokers, s.group, s.settings)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := group.Consume(ctx, []string{s.topic}, saramaMember(saw)); err != nil && ctx.Err() == nil {
			fprint("sarama: %v", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
	return group.Close()
}

func (s *saramaClient) lag(context.Context) (int64, error) {
	all := make([]int32, partitions)
	for partition := range all {
		all[partition] = int32(partition)
	}
	committed, err := s.admin.ListConsumerGroupOffsets(s.group, map[string][]int32{s.topic: all})
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, partition := range all {
		end, err := s.client.GetOffset(s.topic, partition, sarama.OffsetNewest)
		if err != nil {
			return 0, err
		}
		total += end - max(committed.GetBlock(s.topic, partition).Offset, 0)
	}
	return total, nil
}
