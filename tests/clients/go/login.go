package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"time"

	"github.com/IBM/sarama"
	"github.com/aws/aws-msk-iam-sasl-signer-go/signer"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Logs in as a client of Amazon MSK does, writes a record and reads it back: `clients login-… BOOTSTRAP CA TOPIC VALUE`.
// Credentials are those of the environment. Ends with 3 and the client's words once it was refused.
func login(client string, args []string) {
	bootstrap, ca, topic, value := args[0], args[1], args[2], args[3]
	pem, err := os.ReadFile(ca)
	if err != nil {
		fail("%v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: roots}
	logins := map[string]func(string, *tls.Config, string, string) error{
		"login-franz-go":       loginFranz,
		"login-franz-go-scram": loginFranzScram,
		"login-sarama":         loginSarama,
	}
	if err := logins[client](bootstrap, config, topic, value); err != nil {
		fprint("%v", err)
		os.Exit(3)
	}
}

// Its own AWS_MSK_IAM.
func loginFranz(bootstrap string, config *tls.Config, topic, value string) error {
	auth := aws.Auth{
		AccessKey:    os.Getenv("AWS_ACCESS_KEY_ID"),
		SecretKey:    os.Getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken: os.Getenv("AWS_SESSION_TOKEN"),
	}
	return franzLogin(kgo.SASL(auth.AsManagedStreamingIAMMechanism()), bootstrap, config, topic, value)
}

func loginFranzScram(bootstrap string, config *tls.Config, topic, value string) error {
	auth := scram.Auth{User: os.Getenv("WEIR_USER"), Pass: os.Getenv("WEIR_PASSWORD")}
	return franzLogin(kgo.SASL(auth.AsSha512Mechanism()), bootstrap, config, topic, value)
}

func franzLogin(mechanism kgo.Opt, bootstrap string, config *tls.Config, topic, value string) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.DialTLSConfig(config),
		mechanism,
		kgo.RequestRetries(1),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, end := context.WithTimeout(context.Background(), 30*time.Second)
	defer end()
	if err := client.Ping(ctx); err != nil {
		return err
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		return err
	}
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, record := range fetches.Records() {
			if string(record.Value) == value {
				return nil
			}
		}
	}
}

type tokens struct{}

func (tokens) Token() (*sarama.AccessToken, error) {
	token, _, err := signer.GenerateAuthToken(context.Background(), os.Getenv("AWS_REGION"))
	return &sarama.AccessToken{Token: token}, err
}

// OAUTHBEARER with a token of the aws-msk-iam-sasl-signer.
func loginSarama(bootstrap string, config *tls.Config, topic, value string) error {
	conf := sarama.NewConfig()
	conf.Net.TLS.Enable, conf.Net.TLS.Config = true, config
	conf.Net.SASL.Enable = true
	conf.Net.SASL.Mechanism = sarama.SASLTypeOAuth
	conf.Net.SASL.TokenProvider = tokens{}
	conf.Producer.Return.Successes = true
	conf.Metadata.Retry.Max = 1
	client, err := sarama.NewClient([]string{bootstrap}, conf)
	if err != nil {
		return err
	}
	defer client.Close()
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return err
	}
	partition, offset, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
	if err != nil {
		return err
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	reading, err := consumer.ConsumePartition(topic, partition, offset)
	if err != nil {
		return err
	}
	select {
	case message := <-reading.Messages():
		if string(message.Value) == value {
			return nil
		}
		return errors.New("another record stands there")
	case <-time.After(20 * time.Second):
		return errors.New("the record was not read in 20 s")
	}
}
