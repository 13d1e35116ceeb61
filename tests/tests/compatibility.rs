//! The tables of `docs/compatibility.md` are made here, of what the suite runs and of what the code offers. `WEIR_WRITE_DOCS=1`
//! writes them; otherwise the page must have them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use wire::kafka::OFFERED;

/// A client that the suite runs, unmodified.
struct Client {
    name: &'static str,
    /// Where its version is pinned: a file, and what stands before the version there.
    pins: &'static [(&'static str, &'static str)],
    /// What of it is used.
    uses: &'static [Use],
    how: &'static str,
    /// `file::function` of the tests that run it.
    tests: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Produce,
    Idempotence,
    Assign,
    Groups,
    Cooperative,
    Static,
    Admin,
    /// Storage nodes and gateways are killed under it, and what it acknowledged is checked.
    Kills,
}

const COLUMNS: &[(Use, &str)] = &[
    (Use::Produce, "produce"),
    (Use::Idempotence, "idempotence"),
    (Use::Assign, "read by `assign`"),
    (Use::Groups, "groups"),
    (Use::Cooperative, "cooperative"),
    (Use::Static, "static members"),
    (Use::Admin, "administration"),
    (Use::Kills, "kills of nodes and gateways"),
];

const POM: &[(&str, &str)] = &[("tests/clients/java/pom.xml", "<kafka.version>")];
const PIP: &str = "tests/clients/python/requirements.txt";
const GO: &str = "tests/clients/go/go.mod";

const CLIENTS: &[Client] = &[
    Client {
        name: "kcat, librdkafka",
        pins: &[],
        uses: &[Use::Produce, Use::Idempotence, Use::Assign, Use::Kills],
        how: "Debian's: kcat 1.7.1, librdkafka 2.0.2",
        tests: &["cluster.rs::an_idempotent_stream_comes_out_byte_identical_through_kill_9_of_every_service"],
    },
    Client {
        name: "confluent-kafka (Python)",
        pins: &[(PIP, "confluent-kafka==")],
        uses: &[Use::Produce, Use::Idempotence, Use::Assign, Use::Groups, Use::Cooperative, Use::Static, Use::Kills],
        how: "every codec; the range and the cooperative sticky assignor",
        tests: &[
            "clients.rs::confluent_kafka_produces_and_reads_with_assign",
            "clients.rs::groups_of_confluent_kafka_share_commit_and_come_back",
            "clients.rs::a_group_outlives_the_node_of_its_coordinator",
        ],
    },
    Client {
        name: "kafka-python",
        pins: &[(PIP, "kafka-python==")],
        uses: &[Use::Produce, Use::Groups],
        how: "",
        tests: &["clients.rs::groups_of_kafka_python_and_aiokafka_share_and_commit"],
    },
    Client {
        name: "aiokafka",
        pins: &[(PIP, "aiokafka==")],
        uses: &[Use::Produce, Use::Groups],
        how: "",
        tests: &["clients.rs::groups_of_kafka_python_and_aiokafka_share_and_commit"],
    },
    Client {
        name: "Apache Kafka's Java client",
        pins: POM,
        uses: &[Use::Produce, Use::Idempotence, Use::Groups, Use::Cooperative, Use::Kills],
        how: "idempotent, pipelined; the range and the cooperative sticky assignor; its console producer and consumer",
        tests: &["ledgers.rs::apache_kafkas_client", "clients.rs::apache_kafkas_console_tools_produce_and_read"],
    },
    Client {
        name: "Apache Kafka's tools",
        pins: POM,
        uses: &[Use::Admin],
        how: "`kafka-topics`, `kafka-consumer-groups` (list, describe, reset, delete), `kafka-configs`, `kafka-get-offsets`, \
              `kafka-delete-records`, `kafka-log-dirs`",
        tests: &["clients.rs::apache_kafkas_tools_administer_topics_and_groups"],
    },
    Client {
        name: "kafbat UI, AKHQ, Redpanda Console",
        pins: POM,
        uses: &[Use::Produce, Use::Assign, Use::Groups, Use::Admin],
        how: "the calls that they make, by Java's Admin, and what they need of the answers; not the consoles themselves",
        tests: &["clients.rs::web_consoles_get_the_answers_that_they_need"],
    },
    Client {
        name: "franz-go, kadm",
        pins: &[(GO, "github.com/twmb/franz-go v"), (GO, "github.com/twmb/franz-go/pkg/kadm v")],
        uses: &[Use::Produce, Use::Idempotence, Use::Groups, Use::Cooperative, Use::Admin, Use::Kills],
        how: "",
        tests: &["ledgers.rs::franz_go", "clients.rs::franz_go_passes_its_own_tests"],
    },
    Client {
        name: "sarama",
        pins: &[(GO, "github.com/IBM/sarama v")],
        uses: &[Use::Produce, Use::Idempotence, Use::Groups, Use::Kills],
        how: "with its default protocol versions, and with its newest",
        tests: &["ledgers.rs::sarama", "ledgers.rs::sarama_with_its_newest_versions"],
    },
    Client {
        name: "segmentio kafka-go",
        pins: &[(GO, "github.com/segmentio/kafka-go v")],
        uses: &[Use::Produce, Use::Groups, Use::Kills],
        how: "it has no idempotence: what it sends again may be there twice",
        tests: &["ledgers.rs::kafka_go"],
    },
    Client {
        name: "kafkajs",
        pins: &[("tests/clients/js/package.json", "\"kafkajs\": \"")],
        uses: &[Use::Produce, Use::Groups, Use::Kills],
        how: "without idempotence, as it is by default. With it, it gives the sequence numbers of a request that failed to the next \
              one, though the first may be in the log: any broker takes the next for a repetition, and it is lost",
        tests: &["ledgers.rs::kafkajs"],
    },
    Client {
        name: "@confluentinc/kafka-javascript",
        pins: &[("tests/clients/js/package.json", "\"@confluentinc/kafka-javascript\": \"")],
        uses: &[Use::Produce, Use::Idempotence, Use::Groups, Use::Admin, Use::Kills],
        how: "by its interface that is like kafkajs's; built from source against the system's libraries",
        tests: &["ledgers.rs::confluent_kafka_javascript"],
    },
    Client {
        name: "Kafka Streams",
        pins: POM,
        uses: &[Use::Produce, Use::Groups, Use::Cooperative, Use::Admin, Use::Kills],
        how: "a count by another key, at least once; an instance is replaced and reads its state back",
        tests: &["ledgers.rs::kafka_streams"],
    },
    Client {
        name: "Kafka Connect",
        pins: POM,
        uses: &[Use::Produce, Use::Groups, Use::Admin, Use::Kills],
        how: "a distributed worker, killed once too; a file at both ends",
        tests: &["connect.rs::kafka_connect"],
    },
    Client {
        name: "MirrorMaker 2",
        pins: POM,
        uses: &[Use::Produce, Use::Groups, Use::Admin, Use::Kills],
        how: "from a real Apache Kafka, with the offsets of a group",
        tests: &["connect.rs::mirror_maker"],
    },
];

/// What there is to say of an API, by its name.
const NOTES: &[(&str, &str)] = &[
    ("Produce", "0 to 2 are advertised (librdkafka before 2.11.1 looks for them) and refused"),
    ("Fetch", "no fetch sessions"),
    ("ListOffsets", "earliest, latest, by time, the newest timestamp (KIP-734); nothing is in tiered storage"),
    ("Metadata", "brokers are the gateways that are alive"),
    ("CreateTopics", "where partitions go is not the client's to say: assignments are ignored"),
    ("CreatePartitions", "assignments are ignored"),
    (
        "DeleteRecords",
        "the log start moves at once; other gateways hear of it within moments. The last sealed segment stays on disk",
    ),
    ("InitProducerId", "idempotent producers; transactional ids are refused"),
    ("FindCoordinator", "groups; a transactional producer is told that transactions are not built yet"),
    ("JoinGroup", "classic groups: eager and cooperative, static members, KIP-394, KIP-814"),
    ("OffsetCommit", "offsets of a group without members are kept for a week"),
    ("ListGroups", "each gateway lists the groups that it is shown to coordinate"),
    ("DescribeConfigs", "every topic config with its source, accepted back"),
    ("AlterConfigs", "broker configs are fixed"),
    ("IncrementalAlterConfigs", "broker configs are fixed"),
    ("DescribeProducers", "idempotent producers as the leader remembers them"),
    ("DescribeLogDirs", "one directory; the bytes of one copy"),
    ("OffsetForLeaderEpoch", "every epoch reaches as far as readers may see: nothing that was read is ever cut off"),
    ("SaslHandshake", "version 0 is refused: it has no place for errors"),
    ("ListPartitionReassignments", "always empty"),
    ("DescribeClientQuotas", "always empty"),
    ("DescribeAcls", "SECURITY_DISABLED: there are no ACLs"),
    ("CreateAcls", "SECURITY_DISABLED"),
    ("DeleteAcls", "SECURITY_DISABLED"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The version behind a pin.
fn version((file, before): (&str, &str)) -> String {
    let text = read(file);
    let (_, behind) = text.split_once(before).unwrap_or_else(|| panic!("{file} has no `{before}`"));
    behind.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect()
}

fn clients() -> String {
    let mut table = "| client | version |".to_owned();
    COLUMNS.iter().for_each(|(_, column)| write!(table, " {column} |").expect("text"));
    table += " |\n|---|---|";
    table += &"---|".repeat(COLUMNS.len() + 1);
    table.push('\n');
    for client in CLIENTS {
        let versions: Vec<String> = client.pins.iter().map(|pin| version(*pin)).collect();
        write!(table, "| {} | {} |", client.name, versions.join(", ")).expect("text");
        for (wanted, _) in COLUMNS {
            table += if client.uses.contains(wanted) { " yes |" } else { " |" };
        }
        writeln!(table, " {} |", client.how).expect("text");
    }
    table
}

fn apis() -> String {
    let mut table = "| API | versions | |\n|---|---|---|\n".to_owned();
    for offered in OFFERED {
        let name = format!("{:?}", offered.key);
        let versions = match offered.max - offered.accepted {
            0 => offered.max.to_string(),
            _ => format!("{} to {}", offered.accepted, offered.max),
        };
        let note = NOTES.iter().find(|(known, _)| *known == name).map_or("", |(_, note)| note);
        writeln!(table, "| {name} | {versions} | {note} |").expect("text");
    }
    table
}

const PAGE: &str = "docs/compatibility.md";

/// The page with a table between its marks.
fn with_table(page: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- table: {name} -->\n"), format!("<!-- end: {name} -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{PAGE} has no `{begin}`"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{PAGE} has no `{end}`"));
    format!("{before}{begin}\n{table}\n{end}{after}")
}

#[test]
fn the_compatibility_page_says_what_the_suite_runs_and_the_code_offers() {
    let page = read(PAGE);
    let made = with_table(&with_table(&page, "clients", &clients()), "apis", &apis());
    if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
        std::fs::write(root().join(PAGE), &made).expect("the page");
    } else {
        assert!(page == made, "{PAGE} is not what it would be: run this test with WEIR_WRITE_DOCS=1");
    }
}

#[test]
fn every_client_of_the_page_has_its_tests_in_the_suite() {
    for test in CLIENTS.iter().flat_map(|client| client.tests) {
        let (file, function) = test.split_once("::").expect("file::function");
        let text = read(&format!("tests/tests/{file}"));
        let (before, _) = text.split_once(&format!("fn {function}()")).unwrap_or_else(|| panic!("no test {test}"));
        assert!(before.trim_end().ends_with("#[test]"), "{test} is no test");
        let suite = file.trim_end_matches(".rs");
        assert!(read("test").contains(&format!("--test {suite}")), "./test does not run {suite}");
    }
}

#[test]
fn every_note_is_of_an_api_that_is_offered() {
    for (name, _) in NOTES {
        assert!(OFFERED.iter().any(|offered| format!("{:?}", offered.key) == *name), "{name} is not offered");
    }
}
