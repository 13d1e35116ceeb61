import java.time.Duration;
import java.util.Map;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A ledger kept by Kafka's own client: see ../go/main.go, of which this is the same in Java. Producing is idempotent and
 * pipelined, as it is unless one says otherwise.
 *
 * <p>Usage: Ledger BOOTSTRAP TOPIC GROUP ASSIGNOR
 */
public final class Ledger {
    static final int PARTITIONS = 6;
    static final int KEYS = 8;
    static final Map<String, Integer> acked = new ConcurrentHashMap<>();
    static final Map<String, Integer> next = new ConcurrentHashMap<>();
    static final AtomicInteger again = new AtomicInteger();
    static volatile boolean isOver = false;

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

    static synchronized void saw(ConsumerRecord<String, String> message) {
        int number = Integer.parseInt(message.value());
        int expected = next.getOrDefault(message.key(), 0);
        if (number > expected) {
            fail(message.key() + ": " + number + " comes, " + expected + " was never read", null);
        }
        if (number == expected) {
            next.put(message.key(), number + 1);
        } else {
            again.incrementAndGet();
        }
    }

    static final class Member extends Thread {
        final KafkaConsumer<String, String> consumer;
        final String topic;
        volatile int read = 0;

        Member(String bootstrap, String topic, String group, String assignor) {
            Properties properties = properties(bootstrap);
            properties.put("group.id", group);
            properties.put("auto.offset.reset", "earliest");
            properties.put("enable.auto.commit", "false");
            properties.put("session.timeout.ms", "10000");
            properties.put("heartbeat.interval.ms", "500");
            properties.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor);
            this.consumer = new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
            this.topic = topic;
        }

        @Override
        public void run() {
            consumer.subscribe(List.of(topic));
            while (!isOver) {
                for (ConsumerRecord<String, String> message : consumer.poll(Duration.ofMillis(200))) {
                    saw(message);
                    read++;
                }
                try {
                    consumer.commitSync();
                } catch (CommitFailedException | RebalanceInProgressException | RetriableException error) {
                    // Whoever has the partition now goes on.
                    System.err.println("commit: " + error);
                }
            }
            consumer.close();
        }
    }

    static void waitUntil(String what, int seconds, BooleanSupplier holds) throws InterruptedException {
        long began = System.nanoTime();
        while (!holds.getAsBoolean()) {
            if (System.nanoTime() - began > seconds * 1_000_000_000L) {
                fail("not within " + seconds + " s: " + what, null);
            }
            Thread.sleep(20);
        }
    }

    static long lag(Admin admin, String topic, String group) {
        try {
            Map<TopicPartition, OffsetSpec> wanted = new java.util.HashMap<>();
            for (int partition = 0; partition < PARTITIONS; partition++) {
                wanted.put(new TopicPartition(topic, partition), OffsetSpec.latest());
            }
            long lag = 0;
            for (ListOffsetsResultInfo end : admin.listOffsets(wanted).all().get().values()) {
                lag += end.offset();
            }
            for (OffsetAndMetadata committed : admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values()) {
                lag -= committed.offset();
            }
            return lag;
        } catch (Exception error) {
            System.err.println("lag: " + error);
            return -1;
        }
    }

    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0];
        String topic = arguments[1];
        String group = arguments[2];
        Thread.setDefaultUncaughtExceptionHandler((thread, error) -> fail("a thread ended", error));
        Admin admin = Admin.create(properties(bootstrap));
        admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 3))).all().get();
        KafkaProducer<String, String> producer =
            new KafkaProducer<>(properties(bootstrap), new StringSerializer(), new StringSerializer());
        List<Member> members =
            List.of(new Member(bootstrap, topic, group, arguments[3]), new Member(bootstrap, topic, group, arguments[3]));
        members.forEach(Thread::start);
        boolean[] isClosed = {false};
        Thread writer = new Thread(() -> {
            for (int number = 0; !isClosed[0]; number++) {
                for (int key = 0; key < KEYS; key++) {
                    String name = "key-" + key;
                    int one = number;
                    producer.send(new ProducerRecord<>(topic, name, String.valueOf(number)), (sent, error) -> {
                        if (error != null) {
                            fail(name + ": " + one + " is refused", error);
                        }
                        acked.merge(name, one + 1, Math::max);
                    });
                }
                try {
                    Thread.sleep(10);
                } catch (InterruptedException error) {
                    return;
                }
            }
        });
        writer.start();
        waitUntil("both members read", 60, () -> members.stream().allMatch(member -> member.read > 0));
        System.out.println("ready");
        while (System.in.read() >= 0) {
        }
        isClosed[0] = true;
        writer.join();
        producer.flush();
        waitUntil("everything is read", 60, () -> acked.equals(next));
        waitUntil("no lag is left", 30, () -> lag(admin, topic, group) == 0);
        isOver = true;
        for (Member member : members) {
            member.join();
        }
        int total = acked.values().stream().mapToInt(Integer::intValue).sum();
        System.out.println("ok: " + total + " records, " + again + " of them read again");
        System.exit(0);
    }
}
