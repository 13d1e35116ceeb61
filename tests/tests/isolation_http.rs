//! Every HTTP call, on what is one's own, another tenant's, deleted, or was never there: in one's cluster, and in accounts.

use serde_json::{Value, json};
use tests::Scratch;
use tests::guarded::{Guarded, Key, app_policy, output_text};
use tests::signed::{Answer, Signed};

const OURS: &str = "111111111111";
const THEIRS: &str = "222222222222";
const NOBODYS: &str = "333333333333";
/// What it would take is taken, unless it is one's own.
const TAKES: bool = true;

/// Method, path, body; and whether it takes away what the calls after it look at.
type Call = (&'static str, &'static str, &'static str, bool);

/// About what is in the caller's cluster.
const IN_CLUSTER: &[Call] = &[
    ("GET", "/v1/topics/{name}", "", false),
    ("PATCH", "/v1/topics/{name}", r#"{"configs":{"retention.ms":"86400000"}}"#, false),
    ("PATCH", "/v1/topics/{name}", r#"{"partitions":1}"#, false),
    ("POST", "/v1/topics/{name}/records", r#"{"records":[{"value":"more"}]}"#, false),
    ("POST", "/v1/topics/{name}/records?acks=all", r#"{}"#, false),
    ("GET", "/v1/topics/{name}/partitions/0/records?offset=earliest", "", false),
    ("GET", "/v1/topics/{name}/partitions/0/records?offset=latest&wait_ms=1", "", false),
    ("GET", "/v1/topics/{name}/partitions/0/records?offset=@0", "", false),
    ("GET", "/v1/topics/{name}/partitions/7/records?offset=0", "", false),
    ("POST", "/v1/topics/{name}/partitions/0/trim", r#"{"before":0}"#, false),
    ("POST", "/v1/topics/{name}/partitions/0/move", r#"{"to":"az-c"}"#, false),
    ("POST", "/v1/topics/{name}/partitions/0/accept-loss", "{}", false),
    ("GET", "/v1/groups/{name}", "", false),
    ("POST", "/v1/groups/{name}/reset", r#"{"topic":"{name}","to":"earliest","dry_run":true}"#, false),
    ("POST", "/v1/groups/{name}/reset", r#"{"topic":"{own}","to":"earliest","dry_run":true}"#, false),
    ("DELETE", "/v1/groups/{name}", "", TAKES),
    ("DELETE", "/v1/topics/{name}", "", TAKES),
];

/// About an account as a whole.
const OF_ACCOUNT: &[Call] = &[
    ("GET", "/v1/accounts/{account}", "", false),
    ("GET", "/v1/accounts/{account}/quota", "", false),
    ("PUT", "/v1/accounts/{account}/quota", r#"{"profile":"unlimited"}"#, false),
    ("GET", "/v1/accounts/{account}/quota-profiles", "", false),
    ("PUT", "/v1/accounts/{account}/quota-profiles/{name}", r#"{"ingress":1}"#, false),
    ("GET", "/v1/accounts/{account}/clusters", "", false),
    ("POST", "/v1/accounts/{account}/clusters", r#"{"name":"orders"}"#, false),
    ("GET", "/v1/accounts/{account}/issuers", "", false),
    (
        "POST",
        "/v1/accounts/{account}/issuers",
        r#"{"name":"{name}","issuer":"https://idp.example","audiences":["a"],"roles":["{name}"],"jwks":{"keys":[]}}"#,
        false,
    ),
    ("GET", "/v1/accounts/{account}/users", "", false),
    ("GET", "/v1/accounts/{account}/roles", "", false),
];

/// About something of an account, of one of these kinds.
const OF_HOLDER: &[Call] = &[
    ("GET", "/v1/accounts/{account}/{kind}/{name}", "", false),
    ("PATCH", "/v1/accounts/{account}/{kind}/{name}", r#"{"tags":{"a":"b"}}"#, false),
    ("PATCH", "/v1/accounts/{account}/{kind}/{name}", r#"{"password":"correct-horse-battery"}"#, false),
    ("GET", "/v1/accounts/{account}/{kind}/{name}/quota", "", false),
    ("PUT", "/v1/accounts/{account}/{kind}/{name}/quota", r#"{"profile":"unlimited"}"#, false),
    ("GET", "/v1/accounts/{account}/{kind}/{name}/keys", "", false),
    ("POST", "/v1/accounts/{account}/{kind}/{name}/keys", "{}", TAKES),
    ("DELETE", "/v1/accounts/{account}/{kind}/{name}/keys/{key}", "", TAKES),
    ("PUT", "/v1/accounts/{account}/{kind}/{name}/policies/more", POLICY, false),
    ("DELETE", "/v1/accounts/{account}/{kind}/{name}/policies/more", "", false),
    ("PUT", "/v1/accounts/{account}/{kind}/{name}/boundary", POLICY, false),
    ("DELETE", "/v1/accounts/{account}/{kind}/{name}/boundary", "", false),
    ("DELETE", "/v1/accounts/{account}/{kind}/{name}", "", TAKES),
];
const OF_CLUSTER: &[Call] = &[
    ("PUT", "/v1/accounts/{account}/clusters/{name}/policy", CLUSTER_POLICY, false),
    ("DELETE", "/v1/accounts/{account}/clusters/{name}/policy", "", false),
    ("GET", "/v1/accounts/{account}/clusters/{name}/quota", "", false),
    ("PUT", "/v1/accounts/{account}/clusters/{name}/quota", r#"{"profile":"unlimited"}"#, false),
    ("DELETE", "/v1/accounts/{account}/clusters/{name}", "", TAKES),
];
const OF_ISSUER: &[Call] = &[
    ("GET", "/v1/accounts/{account}/issuers/{name}/denied", "", false),
    ("POST", "/v1/accounts/{account}/issuers/{name}/denied", r#"{"jti":"one"}"#, false),
    ("DELETE", "/v1/accounts/{account}/issuers/{name}/denied/one", "", false),
    ("DELETE", "/v1/accounts/{account}/issuers/{name}/denied/two", "", false),
    ("DELETE", "/v1/accounts/{account}/issuers/{name}", "", TAKES),
];

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
const CLUSTER_POLICY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}"#;

/// Whoever asks, and how many answers were compared.
struct Asker {
    who: String,
    session: Signed,
    more: Vec<(&'static str, String)>,
    cells: usize,
    leaks: Vec<String>,
}

/// Something that a call is about: names to put in its place, and what they are told as.
#[derive(Debug, Clone)]
struct Thing {
    account: &'static str,
    name: String,
    key: String,
}

impl Asker {
    fn tell(&mut self, call: &Call, kind: &str, own: &str, thing: &Thing) -> String {
        let (method, path, body, _) = call;
        let fill = |text: &str| {
            let text = text.replace("{account}", thing.account).replace("{kind}", kind).replace("{own}", own);
            text.replace("{name}", &thing.name).replace("{key}", &thing.key)
        };
        let more: Vec<(&str, &str)> = self.more.iter().map(|(name, value)| (*name, &**value)).collect();
        let Answer { status, headers, body } = self.session.ask(method, &fill(path), &fill(body), &more);
        self.cells += 1;
        let usual = ["date", "content-length"];
        let headers: Vec<String> = headers
            .iter()
            .filter(|(name, _)| !usual.contains(&name.as_str()) && !name.starts_with("ratelimit"))
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let told = format!("{status} {headers:?} {body}");
        let told = told.replace(thing.account, "ACCOUNT").replace(&thing.name, "NAME");
        without_decision(&if thing.key.is_empty() { told } else { told.replace(&thing.key, "KEY") })
    }

    /// Asks about each of them; what is not `things[0]`, which is one's own, is answered alike.
    fn compare(&mut self, call: &Call, kind: &str, things: &[Thing], alike: &[(usize, usize)]) -> Vec<String> {
        let own = things[0].name.clone();
        let mut told = Vec::new();
        for (at, thing) in things.iter().enumerate() {
            let is_kept = call.3 && at == 0;
            told.push(if is_kept { String::new() } else { self.tell(call, kind, &own, thing) });
        }
        for (from, to) in alike.iter().copied() {
            let some = &told[from..to];
            if some.iter().any(|text| text != &some[0]) {
                let (who, things) = (&self.who, &things[from..to]);
                self.leaks.push(format!("{who} {call:?} {kind}: {things:#?} {some:#?}"));
            }
        }
        told
    }
}

/// Each denial has an id of its own.
fn without_decision(text: &str) -> String {
    let id = |c: char| c.is_ascii_hexdigit() || c == '-';
    let mut out = text.to_owned();
    for mark in ["(decision ", "policy why "] {
        let mut parts = out.split(mark);
        let first = parts.next().unwrap_or_default().to_owned();
        out = parts.fold(first, |out, part| out + mark + part.trim_start_matches(id));
    }
    out
}

fn expect(output: &std::process::Output) {
    assert!(output.status.success(), "{}", output_text(output));
}

/// Everything that an operator sees of an account, but for what is counted.
fn state(guarded: &Guarded, account: &str) -> Vec<Value> {
    let paths =
        ["", "/users", "/roles", "/clusters", "/issuers", "/quota-profiles", "/users/their/keys", "/roles/their/keys"];
    let read = |path: &&str| {
        let url = format!("{}/v1/accounts/{account}{path}", guarded.cluster.http);
        let (status, mut json) = tests::curl_json(&[&url]);
        assert_eq!(status, 200, "{url}: {json}");
        json.as_object_mut().expect("an object").remove("used");
        json
    };
    paths.iter().map(read).collect()
}

/// A user, a role, a cluster and an issuer called `name` in an account; the id of the user's access key.
fn make(guarded: &Guarded, account: &str, name: &str) -> String {
    let operate = |arguments: &[&str], input: &str| {
        guarded.operate(&[arguments, &["--account", account]].concat(), input.as_bytes())
    };
    operate(&["user", "create", name], "");
    operate(&["role", "create", name], "");
    operate(&["cluster", "create", name, "--region", "us-east-1"], "");
    let jwks = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
    let issuer = json!({ "name": name, "issuer": format!("https://{name}.example"), "audiences": [format!("weir-{account}")],
                         "roles": [name], "jwks": serde_json::from_str::<Value>(jwks).expect("JSON") });
    let url = format!("{}/v1/accounts/{account}/issuers", guarded.cluster.http);
    let (status, told) = tests::curl_json(&["-H", "content-type: application/json", "-d", &issuer.to_string(), &url]);
    assert_eq!(status, 201, "{told}");
    let deny = ["issuer", "deny", name, "two", "--account", account];
    guarded.operate(&deny, b"");
    let key = guarded.operate_json(&["key", "create", "--user", name, "--account", account]);
    key["id"].as_str().expect("an id").to_owned()
}

fn unmake(guarded: &Guarded, account: &str, name: &str) {
    let url = format!("{}/v1/accounts/{account}/issuers/{name}", guarded.cluster.http);
    tests::curl(&["-X", "DELETE", &url]);
    for kind in ["cluster", "role", "user"] {
        guarded.operate(&[kind, "delete", name, "--account", account], b"");
    }
}

#[test]
fn nothing_of_another_tenant_can_be_told_from_nothing_over_http() {
    let scratch = Scratch::new("isolation-http");
    let guarded = Guarded::start(scratch.path());
    for account in [OURS, THEIRS] {
        guarded.make_account(account, "orders", "abcd-1");
        guarded.operate(&["quota", "set", "unlimited", "--account", account], b"");
    }
    let everything =
        json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }] });
    let [admin, theirs] = [OURS, THEIRS].map(|account| guarded.make_user(account, "admin", &everything));
    let app = guarded.make_user(OURS, "app", &app_policy(OURS, "orders", "abcd-1"));

    // Topics and groups, while each account has one cluster.
    let of_cluster = |key: &Key, name: &str| {
        expect(&guarded.weir_as(key, &["topic", "create", name]));
        expect(&guarded.produce_as(key, name, "one\ntwo\n"));
        expect(&guarded.weir_as(key, &["group", "reset", name, "--topic", name, "--to", "latest"]));
    };
    let asker = |who: &str, key: &Key, more: Vec<(&'static str, String)>| {
        let (who, session) = (who.to_owned(), Signed::of(&guarded.http, key));
        Asker { who, session, more, cells: 0, leaks: Vec::new() }
    };
    let (mut cells, mut leaks) = (0, Vec::new());
    let mut done = |asker: Asker| {
        cells += asker.cells;
        leaks.extend(asker.leaks);
    };
    let thing =
        |account: &'static str, name: &str, key: &str| Thing { account, name: name.to_owned(), key: key.to_owned() };
    for prefix in ["app", "etc"] {
        let names = ["-own", "-her", "-off", "-nil"].map(|kind| format!("{prefix}{kind}"));
        of_cluster(&admin, &names[0]);
        of_cluster(&theirs, &names[1]);
        of_cluster(&admin, &names[2]);
        expect(&guarded.weir_as(&admin, &["topic", "delete", &names[2]]));
        expect(&guarded.weir_as(&admin, &["group", "delete", &names[2]]));
        let things: Vec<Thing> = names.iter().map(|name| thing(OURS, name, "")).collect();
        for (who, key) in [("admin", &admin), ("app", &app)] {
            for more in [Vec::new(), vec![("weir-cluster-name", "orders".to_owned())]] {
                let mut asker = asker(&format!("{who} {prefix}"), key, more);
                for call in IN_CLUSTER {
                    let told = asker.compare(call, "", &things, &[(1, 4)]);
                    assert!(!(call.0 == "GET" && who == "admin") || told[0] != told[3], "{call:?}: {told:#?}");
                }
                // Lists, metrics and what one is: nothing of theirs is in them.
                for path in ["/v1/topics", "/v1/groups", "/metrics/kafka", "/v1/whoami", "/v1/accounts", "/v1/status"] {
                    let told = asker.session.ask("GET", path, "", &[]);
                    assert!(!told.body.contains("-her") && !told.body.contains(THEIRS), "{path}: {}", told.body);
                }
                done(asker);
            }
        }
        let read = output_text(&guarded.weir_as(&theirs, &["consume", &names[1], "-o", "beginning", "-e"]));
        assert!(read.starts_with("one\ntwo\n"), "{read}");
    }
    // A denial of theirs is not ours to read, nor what the words for it are.
    let denied = output_text(
        &guarded.weir_as(&guarded.make_user(THEIRS, "weak", &app_policy(THEIRS, "x", "y")), &["topic", "list"]),
    );
    let denial = output_text(&guarded.produce_as(&app, "nothing", "line\n"));
    let id = denial.split("(decision ").nth(1).and_then(|rest| rest.split(':').next()).expect("a decision").to_owned();
    let namesake = guarded.make_user(THEIRS, "app", &app_policy(THEIRS, "orders", "abcd-1"));
    for key in [&theirs, &namesake] {
        let mut other = Signed::of(&guarded.http, key);
        let [real, wrong] = [id.clone(), format!("{}0", &id[..id.len() - 1])]
            .map(|id| other.ask("GET", &format!("/v1/decisions/{id}"), "", &[]).body.replace(&id, "ID"));
        assert_eq!(real, wrong, "{denied}");
    }

    // Accounts, and what is in them.
    let of_ours = make(&guarded, OURS, "mine0");
    let gone = make(&guarded, OURS, "gone0");
    unmake(&guarded, OURS, "gone0");
    let of_theirs = make(&guarded, THEIRS, "their");
    let of_gone = make(&guarded, THEIRS, "gone1");
    unmake(&guarded, THEIRS, "gone1");
    let before = state(&guarded, THEIRS);
    let things = [
        thing(OURS, "mine0", &of_ours),
        thing(OURS, "gone0", &gone),
        thing(OURS, "never", "AKIAAAAAAAAAAAAAAAAA"),
        thing(THEIRS, "their", &of_theirs),
        thing(THEIRS, "gone1", &of_gone),
        thing(THEIRS, "never", "AKIAAAAAAAAAAAAAAAAA"),
        thing(NOBODYS, "their", &of_theirs),
        thing(NOBODYS, "never", "AKIAAAAAAAAAAAAAAAAA"),
        // A key of theirs under a name of ours, and the other way.
        thing(OURS, "never", &of_theirs),
        thing(THEIRS, "mine0", &of_ours),
    ];
    let accounts = [things[0].clone(), things[3].clone(), things[6].clone()];
    for (who, key) in [("admin", &admin), ("app", &app)] {
        // The account has several clusters by now.
        let mut asker = asker(who, key, Vec::new());
        for call in OF_ACCOUNT {
            asker.compare(call, "", &accounts, &[(1, 3)]);
        }
        for kind in ["users", "roles"] {
            for call in OF_HOLDER {
                asker.compare(call, kind, &things, &[(1, 3), (3, 8)]);
                let told = asker.compare(call, kind, &[&things[..1], &things[8..9], &things[2..3]].concat(), &[(1, 3)]);
                assert!(!(call.0 == "GET" && who == "admin") || told[0] != told[1], "{call:?}: {told:#?}");
                asker.compare(call, kind, &[&things[..1], &things[9..10], &things[5..6]].concat(), &[(1, 3)]);
            }
        }
        for call in OF_CLUSTER.iter().chain(OF_ISSUER) {
            asker.compare(call, "", &things, &[(1, 3), (3, 8)]);
        }
        done(asker);
        // A cluster of theirs is none, by whatever word one asks for it.
        for name in ["their", "gone1", "never"] {
            let told = Signed::of(&guarded.http, key).ask("GET", "/v1/topics", "", &[("weir-cluster-name", name)]);
            let told = told.body.replace(name, "NAME");
            assert!(told.contains("the account has no cluster `NAME`"), "{told}");
        }
    }
    let mut mine = Signed::of(&guarded.http, &admin);
    assert_eq!(mine.ask("GET", &format!("/v1/accounts/{OURS}/users/mine0"), "", &[]).status, 200, "one's own is there");
    assert_eq!(state(&guarded, THEIRS), before, "theirs is as it was");
    assert!(leaks.is_empty(), "{} leaks: {}", leaks.len(), leaks.join("\n"));
    println!("{cells} cells");
    assert!(cells >= 800, "{cells} cells");
}
