//! Load balancers before a gateway: whom they pass on is told from them, and nobody else says who it is that way.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::balancer::{Balancer, proxy_header};
use tests::guarded::{Guarded, app_policy, output_text};
use tests::session::{Session, token};
use tests::{Scratch, run, weir};
use wire::kafka::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

const OURS: &str = "111111111111";
const LISTED: &str = "127.0.0.2";
const CLIENT: &str = "203.0.113.7";

/// Whether anything is answered at an address.
fn answers(address: &str) -> bool {
    let request = ApiVersionsRequest::default();
    Session::connect(address).call::<_, ApiVersionsResponse>(ApiKey::ApiVersions, 0, &request).is_some()
}

fn status(arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10"]).args(arguments);
    String::from_utf8(run(&mut curl, b"", Duration::from_secs(20)).stdout).expect("text")
}

#[test]
fn balancers_that_are_listed_say_whose_connections_they_pass_on() {
    let dir = Scratch::new("proxy");
    let guarded =
        Guarded::start_with(dir.path(), &["--proxy-from", "127.0.0.2,192.0.2.0/24", "--host-name", "127.0.0.1"]);
    guarded.make_account(OURS, "ours", "u-1");
    // It may do everything, from one network.
    let mut policy = app_policy(OURS, "ours", "u-1");
    for statement in policy["Statement"].as_array_mut().expect("statements") {
        statement["Condition"] = json!({ "IpAddress": { "aws:SourceIp": "203.0.113.0/24" } });
    }
    let key = guarded.make_user(OURS, "app", &policy);
    guarded.set_password(OURS, "app", "correct-horse-battery");
    let http = guarded.http.replace("http://", "");

    // HTTP: from the balancer's client it may, from this machine it may not.
    let balancer = Balancer::start(&http, LISTED, &proxy_header(false));
    let server = format!("http://{}", balancer.address);
    let through = |arguments: &[&str]| {
        let mut command = Command::new(weir());
        run(command.args(arguments).args(["--server", &server]).envs(key.environment()), b"", Duration::from_secs(30))
    };
    let made = through(&["topic", "create", "app"]);
    assert!(made.status.success(), "{}", output_text(&made));
    assert!(!guarded.weir_as(&key, &["topic", "list"]).status.success(), "from elsewhere");

    // Kafka: a listener's own TLS comes behind the header.
    let tls = Balancer::start(&guarded.kafka, LISTED, &proxy_header(false));
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", &tls.address, "-L", "-t", "app", "-m", "10", "-X", "security.protocol=sasl_ssl"]);
    kcat.args(["-X", "sasl.mechanism=SCRAM-SHA-512", "-X", "sasl.password=correct-horse-battery"]);
    kcat.arg("-X").arg(format!("sasl.username={OURS}/app"));
    kcat.arg("-X").arg(format!("ssl.ca.location={}", guarded.ca.display()));
    let listed = run(&mut kcat, b"", Duration::from_secs(30));
    assert!(output_text(&listed).contains("topic \"app\" with"), "{}", output_text(&listed));
    let seen = guarded.audited();
    assert!(
        seen.iter().any(|event| event["source"] == CLIENT && event["action"] == "kafka-cluster:DescribeTopic"),
        "{seen:#?}"
    );

    // What can be read on its way is no proof; TLS up to the balancer is as good as TLS.
    let plain = Balancer::start(&guarded.plain, LISTED, &proxy_header(false));
    assert!(Session::connect(&plain.address).log_in(&key).is_err(), "in the open");
    let token = token(&key);
    assert!(Session::connect(&plain.address).log_in_by_token(&token).is_err(), "in the open");
    let bearer = format!("authorization: Bearer {token}");
    let ask = |address: &str| status(&["-H", &bearer, &format!("http://{address}/v1/topics")]);
    assert_eq!(ask(&balancer.address), "401", "in the open");
    let sealed_http = Balancer::start(&http, LISTED, &proxy_header(true));
    assert_eq!(ask(&sealed_http.address), "200");
    let sealed = Balancer::start(&guarded.plain, LISTED, &proxy_header(true));
    assert_eq!(Session::connect(&sealed.address).log_in(&key), Ok(()));
    assert!(Session::connect(&sealed.address).log_in_by_token(&token).is_ok());
}

#[test]
fn nobody_else_is_believed_and_a_balancer_says_it_always() {
    let dir = Scratch::new("proxy-lies");
    let guarded = Guarded::start_with(dir.path(), &["--proxy-from", LISTED]);
    let http = guarded.http.replace("http://", "");
    // Without a header from a balancer; with one of version 1; with one from somebody else.
    for (own, header) in [
        (LISTED, Vec::new()),
        (LISTED, b"PROXY TCP4 203.0.113.7 127.0.0.1 12345 9092\r\n".to_vec()),
        ("127.0.0.3", proxy_header(false)),
    ] {
        let kafka = Balancer::start(&guarded.plain, own, &header);
        assert!(!answers(&kafka.address), "{own} {header:?}");
        let balancer = Balancer::start(&http, own, &header);
        let answered = status(&[&format!("http://{}/v1/whoami", balancer.address)]);
        assert!(["000", "400"].contains(&&*answered), "{own} {header:?}: {answered}");
    }
    // As it should be: those who are listed with one, the others without.
    for (own, header) in [(LISTED, proxy_header(false)), ("127.0.0.3", Vec::new())] {
        let kafka = Balancer::start(&guarded.plain, own, &header);
        assert!(answers(&kafka.address), "{own} {header:?}");
        let balancer = Balancer::start(&http, own, &header);
        assert_eq!(status(&[&format!("http://{}/v1/whoami", balancer.address)]), "401", "{own} {header:?}");
    }
}
