import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.AuthenticationException;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Logs in with the library that clients of Amazon MSK use, writes a record and reads it back.
 *
 * <p>Usage: Login MECHANISM BOOTSTRAP CA TOPIC VALUE [SECONDS]. MECHANISM is AWS_MSK_IAM, OAUTHBEARER (the same library's
 * handler), or JWT: OAUTHBEARER with Apache Kafka's own handler, and the token in the file that WEIR_TOKEN_FILE names. Credentials are those of the environment, as the AWS SDK reads them. With SECONDS it goes on writing for so long.
 * Ends with 0 once the record was read; with 3 and the client's words once it was refused.
 */
public class Login {
    public static void main(String[] args) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", args[1]);
        config.put("security.protocol", "SASL_SSL");
        config.put("ssl.truststore.type", "PEM");
        config.put("ssl.truststore.location", args[2]);
        config.put("sasl.mechanism", args[0].equals("JWT") ? "OAUTHBEARER" : args[0]);
        config.put("request.timeout.ms", "10000");
        config.put("delivery.timeout.ms", "20000");
        config.put("max.block.ms", "20000");
        if (args[0].equals("AWS_MSK_IAM")) {
            config.put("sasl.jaas.config", "software.amazon.msk.auth.iam.IAMLoginModule required;");
            config.put("sasl.client.callback.handler.class", "software.amazon.msk.auth.iam.IAMClientCallbackHandler");
        } else if (args[0].equals("JWT")) {
            String url = java.nio.file.Path.of(System.getenv("WEIR_TOKEN_FILE")).toUri().toString();
            System.setProperty("org.apache.kafka.sasl.oauthbearer.allowed.urls", url);
            System.setProperty("org.apache.kafka.sasl.oauthbearer.allowed.files", System.getenv("WEIR_TOKEN_FILE"));
            config.put("sasl.oauthbearer.token.endpoint.url", url);
            config.put("sasl.jaas.config",
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;");
            config.put("sasl.login.callback.handler.class",
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler");
        } else {
            config.put("sasl.jaas.config",
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;");
            config.put("sasl.login.callback.handler.class",
                "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler");
            config.put("sasl.client.callback.handler.class",
                "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler");
        }
        config.put("key.serializer", StringSerializer.class.getName());
        config.put("value.serializer", StringSerializer.class.getName());
        config.put("key.deserializer", StringDeserializer.class.getName());
        config.put("value.deserializer", StringDeserializer.class.getName());
        config.put("group.id", args[3] + "-java-" + args[0]);
        config.put("auto.offset.reset", "earliest");
        try {
            write(config, args);
            read(config, args);
        } catch (AuthenticationException | AuthorizationException error) {
            refused(error);
        } catch (ExecutionException error) {
            refused(error.getCause());
        }
    }

    private static void write(Properties config, String[] args) throws Exception {
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(config)) {
            long until = System.currentTimeMillis() + (args.length > 5 ? 1000L * Long.parseLong(args[5]) : 0);
            do {
                producer.send(new ProducerRecord<>(args[3], args[4])).get(20, TimeUnit.SECONDS);
                Thread.sleep(100);
            } while (System.currentTimeMillis() < until);
        }
    }

    private static void read(Properties config, String[] args) {
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(config)) {
            consumer.subscribe(List.of(args[3]));
            long until = System.currentTimeMillis() + 20_000;
            while (System.currentTimeMillis() < until) {
                for (var record : consumer.poll(Duration.ofMillis(500))) {
                    if (record.value().equals(args[4])) {
                        return;
                    }
                }
            }
        }
        throw new IllegalStateException("the record was not read in 20 s");
    }

    private static void refused(Throwable error) {
        System.err.println(error);
        System.exit(3);
    }
}
