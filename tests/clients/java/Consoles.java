import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicListing;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * The calls that web consoles make (kafbat UI, AKHQ, Redpanda Console), on each of their pages, and what they need of the
 * answers: where a console copes with an error, that error and no other.
 *
 * <p>Usage: Consoles BOOTSTRAP. Ends with 0 if a console would show every page.
 */
public final class Consoles {
    static Admin admin;
    static Properties properties = new Properties();

    static void demand(boolean isRight, String what) {
        if (!isRight) {
            throw new AssertionError(what);
        }
    }

    static <T> T got(KafkaFuture<T> future) throws Exception {
        return future.get(30, TimeUnit.SECONDS);
    }

    /** The call fails, in this way. */
    static void fails(KafkaFuture<?> future, Class<? extends Throwable> how) throws Exception {
        try {
            Object result = future.get(30, TimeUnit.SECONDS);
            throw new AssertionError("no " + how.getSimpleName() + " but " + result);
        } catch (ExecutionException error) {
            demand(how.isInstance(error.getCause()), "no " + how.getSimpleName() + " but " + error.getCause());
        }
    }

    static List<TopicPartition> partitions(String topic, int count) {
        List<TopicPartition> all = new ArrayList<>();
        for (int partition = 0; partition < count; partition++) {
            all.add(new TopicPartition(topic, partition));
        }
        return all;
    }

    public static void main(String[] arguments) throws Exception {
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("default.api.timeout.ms", "20000");
        properties.put("request.timeout.ms", "15000");
        admin = Admin.create(properties);
        String topic = "shown";
        admin.createTopics(List.of(new NewTopic(topic, 3, (short) 2))).all().get();
        start();
        brokers(topic);
        messages(topic);
        topics(topic);
        groups(topic);
        changes(topic);
        closed(topic);
        admin.close();
    }

    /** What decides whether a console takes the cluster for online, and which pages it shows. */
    static void start() throws Exception {
        for (boolean operations : List.of(false, true)) {
            var cluster = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(operations));
            demand(got(cluster.clusterId()) != null, "a cluster id");
            Collection<Node> nodes = got(cluster.nodes());
            demand(!nodes.isEmpty(), "nodes");
            Node controller = got(cluster.controller());
            demand(controller == null || nodes.contains(controller), "the controller is a node");
            demand(operations || got(cluster.authorizedOperations()) == null, "no operations unless asked for");
        }
        got(admin.describeFeatures().featureMetadata());
        // kafbat takes UNSUPPORTED_VERSION for a cluster without KRaft; anything else takes it offline.
        fails(admin.describeMetadataQuorum().quorumInfo(), UnsupportedVersionException.class);
    }

    static void brokers(String topic) throws Exception {
        List<Integer> ids = got(admin.describeCluster().nodes()).stream().map(Node::id).collect(Collectors.toList());
        Set<String> sources = Set.of("DYNAMIC_TOPIC_CONFIG", "DYNAMIC_BROKER_CONFIG", "DYNAMIC_DEFAULT_BROKER_CONFIG",
            "STATIC_BROKER_CONFIG", "DEFAULT_CONFIG", "UNKNOWN");
        for (int id : ids) {
            ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, String.valueOf(id));
            var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
            for (var configs : List.of(got(admin.describeConfigs(List.of(broker)).all()),
                got(admin.describeConfigs(List.of(broker), options).all()))) {
                demand(configs.keySet().equals(Set.of(broker)), "the broker that was asked for");
                demand(configs.get(broker).get("inter.broker.protocol.version").value().matches("\\d+\\.\\d+.*"), "a version");
                demand(configs.get(broker).entries().stream().allMatch(e -> sources.contains(e.source().name())), "sources");
            }
        }
        var directories = got(admin.describeLogDirs(ids).allDescriptions());
        demand(directories.keySet().equals(Set.copyOf(ids)), "directories of each broker");
        for (var of : directories.values()) {
            of.values().forEach(directory -> demand(directory.error() == null, "a directory without an error"));
        }
        Node leader = got(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().get(0).leader();
        var replica = new TopicPartitionReplica(topic, 0, leader.id());
        var places = got(admin.describeReplicaLogDirs(List.of(replica)).all());
        demand(places.get(replica).getCurrentReplicaLogDir() != null, "the leader has a directory");
        demand(got(admin.listPartitionReassignments().reassignments()).isEmpty(), "nothing is moved by clients");
    }

    static void messages(String topic) throws Exception {
        Properties settings = new Properties();
        settings.putAll(properties);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int number = 0; number < 30; number++) {
                String value = number % 10 == 9 ? null : "value " + number;
                var record = new ProducerRecord<>(topic, number % 3, "key", value, List.of(new RecordHeader("h", null)));
                demand(producer.send(record).get().offset() >= 0, "an offset");
            }
        }
        settings.put("allow.auto.create.topics", "false");
        List<TopicPartition> all = partitions(topic, 3);
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            demand(consumer.partitionsFor(topic).size() == 3, "three partitions");
            var begins = consumer.beginningOffsets(all);
            var ends = consumer.endOffsets(all);
            demand(begins.keySet().equals(Set.copyOf(all)) && ends.keySet().equals(Set.copyOf(all)), "bounds of all");
            consumer.assign(all);
            all.forEach(partition -> consumer.seek(partition, begins.get(partition)));
            int count = 0;
            long until = System.nanoTime() + 20_000_000_000L;
            while (all.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                demand(System.nanoTime() < until, "all is read in time");
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(500));
                count += records.count();
                records.forEach(record -> demand(record.headers().lastHeader("h") != null, "a header"));
            }
            demand(count == 30, count + " records");
            TopicPartition first = all.get(0);
            var times = consumer.offsetsForTimes(Map.of(first, 0L));
            demand(times.get(first).offset() == begins.get(first), "the first record is newer than 1970");
            demand(consumer.offsetsForTimes(Map.of(first, Long.MAX_VALUE - 1)).get(first) == null, "none is so new");
            consumer.seek(first, ends.get(first));
            consumer.pause(all.subList(1, 3));
            demand(consumer.poll(Duration.ofMillis(200)).isEmpty(), "nothing behind the end");
        }
    }

    static void topics(String topic) throws Exception {
        var listed = got(admin.listTopics(new ListTopicsOptions().listInternal(true)).listings());
        List<String> names = listed.stream().map(TopicListing::name).collect(Collectors.toList());
        demand(names.stream().filter(topic::equals).count() == 1, "it is listed once");
        var described = got(admin.describeTopics(names).allTopicNames());
        described.values().forEach(d -> demand(!d.partitions().isEmpty(), d.name() + " has partitions"));
        described.get(topic).partitions().forEach(p ->
            demand(p.leader() != null && p.replicas().containsAll(p.isr()) && !p.replicas().isEmpty(), "replicas"));
        var mixed = admin.describeTopics(List.of(topic, "no-such")).topicNameValues();
        got(mixed.get(topic));
        fails(mixed.get("no-such"), UnknownTopicOrPartitionException.class);
        demand(got(admin.describeTopics(List.of()).allTopicNames()).isEmpty(), "nothing of nothing");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        ConfigResource none = new ConfigResource(ConfigResource.Type.TOPIC, "no-such");
        var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        var configs = admin.describeConfigs(List.of(resource, none), options).values();
        demand(got(configs.get(resource)).get("cleanup.policy").value() != null, "a policy");
        fails(configs.get(none), UnknownTopicOrPartitionException.class);
        demand(got(admin.describeConfigs(List.of()).all()).isEmpty(), "nothing of nothing");
        TopicPartition first = new TopicPartition(topic, 0);
        long earliest = got(admin.listOffsets(Map.of(first, OffsetSpec.earliest())).all()).get(first).offset();
        long latest = got(admin.listOffsets(Map.of(first, OffsetSpec.latest())).all()).get(first).offset();
        long past = got(admin.listOffsets(Map.of(first, OffsetSpec.forTimestamp(0))).all()).get(first).offset();
        long ahead = got(admin.listOffsets(Map.of(first, OffsetSpec.forTimestamp(Long.MAX_VALUE - 1))).all()).get(first).offset();
        demand(earliest == 0 && latest == 10 && past == earliest && ahead == -1, earliest + " " + latest + " " + past + " " + ahead);
        var producers = got(admin.describeProducers(partitions(topic, 3)).all());
        demand(producers.get(first).activeProducers().size() == 1, "one producer");
    }

    static void groups(String topic) throws Exception {
        String group = "looked-at";
        TopicPartition first = new TopicPartition(topic, 0);
        Properties settings = new Properties();
        settings.putAll(properties);
        settings.put("group.id", group);
        settings.put("auto.offset.reset", "earliest");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.commitSync(Map.of(first, new OffsetAndMetadata(2)));
            demand(consumer.committed(Set.of(first)).get(first).offset() == 2, "what was committed without a subscription");
            consumer.subscribe(List.of(topic));
            long until = System.nanoTime() + 20_000_000_000L;
            while (consumer.poll(Duration.ofMillis(300)).isEmpty()) {
                demand(System.nanoTime() < until, "records");
            }
            consumer.commitSync();
            demand(got(admin.listGroups().all()).stream().anyMatch(g -> g.groupId().equals(group)), "it is listed");
            var member = got(admin.describeConsumerGroups(List.of(group)).all()).get(group);
            demand(member.members().size() == 1 && member.coordinator() != null, "one member");
            fails(admin.deleteConsumerGroups(List.of(group)).all(), GroupNotEmptyException.class);
        }
        var described = got(admin.describeConsumerGroups(List.of(group)).all()).get(group);
        demand(described.groupState().toString().equals("Empty"), "it is empty");
        demand(got(admin.describeConsumerGroups(List.of()).all()).isEmpty(), "nothing of nothing");
        var everything = new ListConsumerGroupOffsetsSpec().topicPartitions(null);
        var offsets = got(admin.listConsumerGroupOffsets(Map.of(group, everything, "no-such", everything)).all());
        demand(offsets.get(group).containsKey(first) && offsets.get("no-such").isEmpty(), "offsets");
        got(admin.alterConsumerGroupOffsets(group, Map.of(first, new OffsetAndMetadata(1))).all());
        offsets = got(admin.listConsumerGroupOffsets(Map.of(group, everything)).all());
        demand(offsets.get(group).get(first).offset() == 1, "it was reset");
        got(admin.deleteConsumerGroupOffsets(group, Set.of(first)).all());
        offsets = got(admin.listConsumerGroupOffsets(Map.of(group, everything)).all());
        demand(!offsets.get(group).containsKey(first), "it was forgotten");
        fails(admin.deleteConsumerGroups(List.of("no-such")).all(), GroupIdNotFoundException.class);
        got(admin.deleteConsumerGroups(List.of(group)).all());
    }

    static void changes(String topic) throws Exception {
        var made = admin.createTopics(List.of(new NewTopic("made", Optional.empty(), Optional.<Short>empty())
            .configs(Map.of("retention.ms", "7776000000", "cleanup.policy", "delete"))));
        demand(got(made.numPartitions("made")) >= 1 && got(made.replicationFactor("made")) >= 1, "defaults");
        demand(got(made.config("made")).get("cleanup.policy").value().equals("delete"), "its configs");
        NewTopic dry = new NewTopic("dry", 1, (short) 1);
        got(admin.createTopics(List.of(dry), new CreateTopicsOptions().validateOnly(true)).all());
        demand(!got(admin.listTopics().names()).contains("dry"), "it was only looked at");
        fails(admin.createTopics(List.of(new NewTopic("made", 1, (short) 1))).all(), TopicExistsException.class);
        fails(admin.createTopics(List.of(dry.configs(Map.of("retention.ms", "a week")))).all(),
            InvalidConfigurationException.class);
        var five = Map.of("made", NewPartitions.increaseTo(5));
        got(admin.createPartitions(five, new CreatePartitionsOptions().validateOnly(true)).all());
        got(admin.createPartitions(five).all());
        fails(admin.createPartitions(Map.of("made", NewPartitions.increaseTo(2))).all(), InvalidPartitionsException.class);
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, "made");
        got(admin.incrementalAlterConfigs(Map.of(resource, List.of(
            new AlterConfigOp(new ConfigEntry("max.message.bytes", "2000000"), AlterConfigOp.OpType.SET),
            new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE)))).all());
        long until = System.nanoTime() + 10_000_000_000L;
        // Of several gateways one may have heard of it and the next not: what changed together is shown in one answer.
        var config = got(admin.describeConfigs(List.of(resource)).all()).get(resource);
        while (!config.get("max.message.bytes").value().equals("2000000")) {
            demand(System.nanoTime() < until, "the config is shown");
            Thread.sleep(50);
            config = got(admin.describeConfigs(List.of(resource)).all()).get(resource);
        }
        demand(config.get("retention.ms").source() == ConfigEntry.ConfigSource.DEFAULT_CONFIG, "it was taken away");
        fails(admin.incrementalAlterConfigs(Map.of(resource, List.of(
            new AlterConfigOp(new ConfigEntry("nobody.knows", "1"), AlterConfigOp.OpType.SET)))).all(),
            InvalidConfigurationException.class);
        TopicPartition first = new TopicPartition(topic, 0);
        var deleted = admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(2)));
        demand(got(deleted.lowWatermarks().get(first)).lowWatermark() == 2, "the low watermark");
        fails(admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(1_000))).all(), OffsetOutOfRangeException.class);
        got(admin.createTopics(List.of(new NewTopic("compacted", 1, (short) 1).configs(Map.of("cleanup.policy", "compact")))).all());
        TopicPartition compacted = new TopicPartition("compacted", 0);
        fails(admin.deleteRecords(Map.of(compacted, RecordsToDelete.beforeOffset(0))).all(), PolicyViolationException.class);
        got(admin.deleteTopics(List.of("made")).all());
        fails(admin.deleteTopics(List.of("no-such")).all(), UnknownTopicOrPartitionException.class);
        got(admin.createTopics(List.of(new NewTopic("made", 1, (short) 1))).all());
    }

    /** What is not offered says so in the one way that consoles cope with. */
    static void closed(String topic) throws Exception {
        fails(admin.describeAcls(AclBindingFilter.ANY).values(), SecurityDisabledException.class);
        var entry = new AccessControlEntry("User:a", "*", AclOperation.READ, AclPermissionType.ALLOW);
        var binding = new AclBinding(new ResourcePattern(ResourceType.TOPIC, topic, PatternType.LITERAL), entry);
        fails(admin.createAcls(List.of(binding)).all(), SecurityDisabledException.class);
        fails(admin.deleteAcls(List.of(binding.toFilter())).all(), SecurityDisabledException.class);
        demand(got(admin.describeClientQuotas(ClientQuotaFilter.all()).entities()).isEmpty(), "no quotas");
        fails(admin.describeUserScramCredentials().all(), UnsupportedVersionException.class);
    }
}
