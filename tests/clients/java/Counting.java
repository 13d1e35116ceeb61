import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

/**
 * A stateful Kafka Streams application, at least once: it repartitions numbered records by another key and keeps, per key, the
 * next number that it expects, in a store with a changelog. Two instances share the work; one is closed and started anew in the
 * middle, so that its state is read back from the changelog.
 *
 * <p>Usage: Counting BOOTSTRAP PREFIX DIRECTORY. Says `ready` once results come, goes on until its input ends; then each key's
 * result must be the number of its records that were acknowledged.
 */
public final class Counting {
    static final int KEYS = 20;
    static final Map<String, Integer> acked = new ConcurrentHashMap<>();
    static final Map<String, Integer> results = new ConcurrentHashMap<>();

    static void fail(String text, Throwable cause) {
        System.err.println(text);
        if (cause != null) {
            cause.printStackTrace();
        }
        Runtime.getRuntime().halt(1);
    }

    static Properties properties(String bootstrap) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        return properties;
    }

    static KafkaStreams start(String bootstrap, String prefix, String directory) {
        Properties properties = properties(bootstrap);
        properties.put("application.id", prefix + "-app");
        properties.put("state.dir", directory);
        properties.put("commit.interval.ms", "500");
        properties.put("statestore.cache.max.bytes", "0");
        properties.put("replication.factor", "3");
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(prefix + "-in", Consumed.with(Serdes.String(), Serdes.String()))
            // The value names another key: a repartition topic is in between.
            .selectKey((key, value) -> value.substring(0, value.indexOf(' ')))
            .groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
            .aggregate(
                () -> 0,
                (key, value, expected) -> {
                    int number = Integer.parseInt(value.substring(value.indexOf(' ') + 1));
                    if (number > expected) {
                        fail(key + ": " + number + " comes, " + expected + " was never counted", null);
                    }
                    // At least once: what comes again was counted.
                    return Math.max(expected, number + 1);
                },
                Materialized.with(Serdes.String(), Serdes.Integer()))
            .toStream()
            .to(prefix + "-out", Produced.with(Serdes.String(), Serdes.Integer()));
        KafkaStreams streams = new KafkaStreams(builder.build(), properties);
        streams.setUncaughtExceptionHandler(error -> {
            fail("the application ended", error);
            return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        streams.start();
        return streams;
    }

    static void read(String bootstrap, String topic, int partitions) {
        KafkaConsumer<String, byte[]> consumer = new KafkaConsumer<>(
            properties(bootstrap), new StringDeserializer(), new org.apache.kafka.common.serialization.ByteArrayDeserializer());
        List<TopicPartition> all = new java.util.ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            all.add(new TopicPartition(topic, partition));
        }
        consumer.assign(all);
        consumer.seekToBeginning(all);
        while (true) {
            for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                results.merge(record.key(), java.nio.ByteBuffer.wrap(record.value()).getInt(), Math::max);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0];
        String prefix = arguments[1];
        Thread.setDefaultUncaughtExceptionHandler((thread, error) -> fail("a thread ended", error));
        Admin admin = Admin.create(properties(bootstrap));
        admin.createTopics(List.of(new NewTopic(prefix + "-in", 4, (short) 3), new NewTopic(prefix + "-out", 4, (short) 3))).all().get();
        KafkaProducer<String, String> producer =
            new KafkaProducer<>(properties(bootstrap), new StringSerializer(), new StringSerializer());
        boolean[] isClosed = {false};
        Thread writer = new Thread(() -> {
            for (int number = 0; !isClosed[0]; number++) {
                for (int key = 0; key < KEYS; key++) {
                    String name = "word-" + key;
                    int one = number;
                    // All of one word under one key, so that their order is that of their numbers.
                    producer.send(new ProducerRecord<>(prefix + "-in", "k" + key % 7, name + " " + number), (sent, error) -> {
                        if (error != null) {
                            fail(name + ": " + one + " is refused", error);
                        }
                        acked.merge(name, one + 1, Math::max);
                    });
                }
                try {
                    Thread.sleep(20);
                } catch (InterruptedException error) {
                    return;
                }
            }
        });
        writer.start();
        KafkaStreams first = start(bootstrap, prefix, arguments[2] + "/first");
        KafkaStreams second = start(bootstrap, prefix, arguments[2] + "/second");
        Thread reader = new Thread(() -> read(bootstrap, prefix + "-out", 4));
        reader.setDaemon(true);
        reader.start();
        long began = System.nanoTime();
        while (results.size() < KEYS) {
            if (System.nanoTime() - began > 90_000_000_000L) {
                fail("no results: " + results, null);
            }
            Thread.sleep(50);
        }
        System.out.println("ready");
        while (System.in.read() >= 0) {
        }
        second.close(Duration.ofSeconds(30));
        second = start(bootstrap, prefix, arguments[2] + "/third");
        Thread.sleep(2000);
        isClosed[0] = true;
        writer.join();
        producer.flush();
        began = System.nanoTime();
        while (!results.equals(acked)) {
            if (System.nanoTime() - began > 60_000_000_000L) {
                fail("not what was acknowledged: " + results + " of " + acked, null);
            }
            Thread.sleep(50);
        }
        first.close(Duration.ofSeconds(30));
        second.close(Duration.ofSeconds(30));
        int total = acked.values().stream().mapToInt(Integer::intValue).sum();
        System.out.println("ok: " + total + " records of " + acked.size() + " words");
        System.exit(0);
    }
}
