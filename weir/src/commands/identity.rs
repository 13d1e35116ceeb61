//! `weir account`, `weir cluster`, `weir user`, `weir role`, `weir key`, `weir whoami`; and policies of those.

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Map, Value, json};

use super::{list, text};
use crate::cli::{
    AccountCommand, AccountOption, ClusterCommand, HolderCommand, HolderOptions, KeyCommand, KeyHolderOptions,
    PolicyTarget, Target,
};
use crate::client::{Client, failure, part};
use crate::output::{Failure, Output, print};

/// The account that is meant: the caller's own where none was named.
pub async fn account(client: &Client, option: &AccountOption) -> Result<String, Failure> {
    match &option.account {
        Some(account) => Ok(part(account)),
        None => Ok(text(&client.json(Method::GET, "/v1/whoami", None).await?["account"])),
    }
}

fn table(output: Output, shown: &Value, rows: &Value, columns: &[(&str, &str)]) {
    let heading: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let row = |row: &Value| columns.iter().map(|(_, key)| text(&row[*key])).collect();
    print(output, shown, &heading, list(rows).iter().map(row).collect());
}

fn one(output: Output, shown: &Value, columns: &[(&str, &str)]) {
    table(output, shown, &json!([shown]), columns);
}

const ACCOUNT: [(&str, &str); 2] = [("ACCOUNT", "id"), ("NAME", "name")];
const CLUSTER: [(&str, &str); 3] = [("NAME", "name"), ("REGION", "region"), ("ARN", "arn")];

pub async fn accounts(command: AccountCommand) -> Result<(), Failure> {
    match command {
        AccountCommand::Create { name, id, target } => {
            let body = json!({ "name": name, "id": id });
            let made = Client::new(&target)?.json(Method::POST, "/v1/accounts", Some(&body)).await?;
            one(target.output, &made, &ACCOUNT);
        }
        AccountCommand::List { target } => {
            let all = Client::new(&target)?.json(Method::GET, "/v1/accounts", None).await?;
            table(target.output, &all, &all["accounts"], &ACCOUNT);
        }
        AccountCommand::Show { id, target } => {
            let path = format!("/v1/accounts/{}", part(&id));
            one(target.output, &Client::new(&target)?.json(Method::GET, &path, None).await?, &ACCOUNT);
        }
    }
    Ok(())
}

pub async fn clusters(command: ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Create { name, uuid, region, account: of, target } => {
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/clusters", account(&client, &of).await?);
            let mut body = json!({ "name": name, "region": region });
            if let Some(uuid) = uuid {
                body["uuid"] = uuid.into();
            }
            one(target.output, &client.json(Method::POST, &path, Some(&body)).await?, &CLUSTER);
        }
        ClusterCommand::List { account: of, target } => {
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/clusters", account(&client, &of).await?);
            let all = client.json(Method::GET, &path, None).await?;
            table(target.output, &all, &all["clusters"], &CLUSTER);
        }
        ClusterCommand::Delete { name, account: of, target } => {
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/clusters/{}", account(&client, &of).await?, part(&name));
            client.json(Method::DELETE, &path, None).await?;
        }
    }
    Ok(())
}

/// `kind`: `users` or `roles`.
pub async fn holders(kind: &str, command: HolderCommand) -> Result<(), Failure> {
    const COLUMNS: [(&str, &str); 2] = [("NAME", "name"), ("ARN", "arn")];
    match command {
        HolderCommand::Create(HolderOptions { name, account: of, target }) => {
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/{kind}", account(&client, &of).await?);
            let made = client.json(Method::POST, &path, Some(&json!({ "name": name }))).await?;
            one(target.output, &made, &COLUMNS);
        }
        HolderCommand::List { account: of, target } => {
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/{kind}", account(&client, &of).await?);
            let all = client.json(Method::GET, &path, None).await?;
            table(target.output, &all, &all[kind], &COLUMNS);
        }
        HolderCommand::Delete(holder) => drop(at(kind, &holder, Method::DELETE, None).await?),
        HolderCommand::SetPassword { delete, holder } => {
            let password = if delete { Value::Null } else { read_password()?.into() };
            at(kind, &holder, Method::PATCH, Some(&json!({ "password": password }))).await?;
        }
        HolderCommand::SetTags { tags, holder } => {
            let tag = |tag: &String| {
                let (key, value) = tag.split_once('=')?;
                Some((key.to_owned(), Value::from(value)))
            };
            let tags: Option<Map<String, Value>> = tags.iter().map(tag).collect();
            let tags = tags.ok_or_else(|| Failure::usage("--tag takes KEY=VALUE"))?;
            at(kind, &holder, Method::PATCH, Some(&json!({ "tags": tags }))).await?;
        }
    }
    Ok(())
}

async fn at(kind: &str, holder: &HolderOptions, method: Method, body: Option<&Value>) -> Result<Value, Failure> {
    let client = Client::new(&holder.target)?;
    let path = format!("/v1/accounts/{}/{kind}/{}", account(&client, &holder.account).await?, part(&holder.name));
    client.json(method, &path, body).await
}

/// The first line of the standard input: what stands on a command line, others can read.
fn read_password() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().read_line(&mut text)?;
    let password = text.trim_end_matches(['\n', '\r']).to_owned();
    if password.is_empty() {
        Err(Failure::usage("the password is read from the standard input, and it is empty"))
    } else {
        Ok(password)
    }
}

/// The path of a user or role of which one is named.
fn holder_path(account: &str, user: Option<&str>, role: Option<&str>) -> String {
    match (user, role) {
        (Some(user), _) => format!("/v1/accounts/{account}/users/{}", part(user)),
        (None, role) => format!("/v1/accounts/{account}/roles/{}", part(role.unwrap_or_default())),
    }
}

/// A client, and the path of the holder's keys.
async fn keys_of(holder: &KeyHolderOptions) -> Result<(Client, String), Failure> {
    let client = Client::new(&holder.target)?;
    let account = account(&client, &holder.account).await?;
    let path = holder_path(&account, holder.user.as_deref(), holder.role.as_deref());
    Ok((client, format!("{path}/keys")))
}

pub async fn keys(command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::Create { session, duration, session_policy, holder } => {
            let policy = session_policy.as_deref().map(read).transpose()?;
            let (client, path) = keys_of(&holder).await?;
            let body = json!({ "session": session, "duration_s": duration, "policy": policy });
            let made = client.json(Method::POST, &path, Some(&body)).await?;
            let columns = [("ACCESS KEY", "id"), ("SECRET", "secret"), ("SESSION TOKEN", "session_token")];
            one(holder.target.output, &made, &columns);
        }
        KeyCommand::List { holder } => {
            let (client, path) = keys_of(&holder).await?;
            let all = client.json(Method::GET, &path, None).await?;
            let columns = [("ACCESS KEY", "id"), ("SESSION", "session"), ("EXPIRES (MS)", "expires_ms")];
            table(holder.target.output, &all, &all["keys"], &columns);
        }
        KeyCommand::Revoke { id, holder } => {
            let (client, path) = keys_of(&holder).await?;
            client.json(Method::DELETE, &format!("{path}/{}", part(&id)), None).await?;
        }
    }
    Ok(())
}

pub async fn whoami(target: &Target) -> Result<(), Failure> {
    let told = Client::new(target)?.json(Method::GET, "/v1/whoami", None).await?;
    let mut told = told;
    if told["principal"].is_null() && target.output == Output::Table {
        told["principal"] = "anyone: nobody has to log in here".into();
    }
    one(target.output, &told, &[("PRINCIPAL", "principal"), ("ACCOUNT", "account"), ("CLUSTER", "cluster")]);
    Ok(())
}

pub fn read(file: &Path) -> Result<String, Failure> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(|error| Failure::failed(format!("`{}`: {error}", file.display())))
}

/// `weir policy put`.
pub async fn put_policy(names: &[String], is_delete: bool, to: PolicyTarget, target: Target) -> Result<(), Failure> {
    let client = Client::new(&target)?;
    let account = account(&client, &to.account).await?;
    let is_nameless = to.boundary || to.for_cluster.is_some();
    let (name, file) = match (names, is_nameless, is_delete) {
        ([name, file], false, false) => (name.as_str(), Some(file)),
        ([name], false, true) => (name.as_str(), None),
        ([file], true, false) => ("", Some(file)),
        ([], true, true) => ("", None),
        _ => {
            let message =
                "a policy of a user or role has a name and a document; a boundary and a cluster's policy a document";
            return Err(Failure::usage(message));
        }
    };
    let path = match &to.for_cluster {
        Some(cluster) => format!("/v1/accounts/{account}/clusters/{}/policy", part(cluster)),
        None => {
            let holder = holder_path(&account, to.user.as_deref(), to.role.as_deref());
            if to.boundary { format!("{holder}/boundary") } else { format!("{holder}/policies/{}", part(name)) }
        }
    };
    let (method, body) = match file {
        Some(file) => (Method::PUT, read(Path::new(file))?),
        None => (Method::DELETE, String::new()),
    };
    let (status, answer) =
        client.call(method, &path, &[("content-type", "application/json")], Bytes::from(body)).await?;
    if status.is_success() {
        return Ok(());
    }
    Err(failure(status, &serde_json::from_slice(&answer).unwrap_or(Value::Null)))
}

/// `weir policy list`.
pub async fn list_policies(to: PolicyTarget, target: Target) -> Result<(), Failure> {
    let client = Client::new(&target)?;
    let account = account(&client, &to.account).await?;
    let (shown, policies) = match &to.for_cluster {
        Some(name) => {
            let all = client.json(Method::GET, &format!("/v1/accounts/{account}/clusters"), None).await?;
            let found = list(&all["clusters"]).iter().find(|cluster| cluster["name"] == name.as_str());
            let found = found.ok_or_else(|| Failure::not_found(format!("there is no cluster `{name}`")))?;
            (found.clone(), json!({ "": found["policy"] }))
        }
        None => {
            let holder = holder_path(&account, to.user.as_deref(), to.role.as_deref());
            let shown = client.json(Method::GET, &holder, None).await?;
            let mut policies = shown["policies"].clone();
            if !shown["boundary"].is_null() {
                policies["(boundary)"] = shown["boundary"].clone();
            }
            (shown, policies)
        }
    };
    let rows = policies.as_object().into_iter().flatten().filter(|(_, document)| !document.is_null());
    let rows = rows.map(|(name, document)| vec![name.clone(), text(document)]).collect();
    print(target.output, &shown, &["POLICY", "DOCUMENT"], rows);
    Ok(())
}

/// `weir policy why`.
pub async fn why(decision: &str, target: &Target) -> Result<(), Failure> {
    let told = Client::new(target)?.json(Method::GET, &format!("/v1/decisions/{}", part(decision)), None).await?;
    let mut rows: Vec<Vec<String>> = ["principal", "action", "resource", "decision", "why"]
        .iter()
        .map(|key| vec![(*key).to_owned(), text(&told[*key])])
        .collect();
    for one in list(&told["statements"]) {
        let name = format!("{} {} of the {}", text(&one["effect"]), text(&one["statement"]), text(&one["layer"]));
        let fit = match one["applies"].as_bool() {
            Some(true) => "applies".to_owned(),
            _ => format!("does not apply: {}: {}", text(&one["element"]), text(&one["detail"])),
        };
        rows.push(vec![name, fit]);
    }
    for one in list(&told["would_allow"]) {
        rows.push(vec![format!("would allow it, as {}", text(&one["layer"])), one["policy"].to_string()]);
    }
    print(target.output, &told, &["", ""], rows);
    Ok(())
}
