//! `weir issuer`.

use hyper::Method;
use serde_json::{Value, json};
use service::clock;

use super::identity::{account, read};
use super::{list, text};
use crate::cli::{AccountOption, IssuerCommand};
use crate::client::{Client, part};
use crate::output::{Failure, print};

pub async fn run(command: IssuerCommand) -> Result<(), Failure> {
    let row = |issuer: &Value| {
        let all = |key: &str| list(&issuer[key]).iter().map(text).collect::<Vec<_>>().join(" ");
        vec![text(&issuer["name"]), text(&issuer["issuer"]), all("audiences"), all("roles")]
    };
    let heading = ["NAME", "ISSUER", "AUDIENCES", "ROLES"];
    match command {
        IssuerCommand::Add { name, issuer, audience, role, role_claim, jwks_url, jwks, account: of, target } => {
            let mut body = json!({
                "name": name, "issuer": issuer, "audiences": audience, "roles": role, "role_claim": role_claim,
                "jwks_url": jwks_url,
            });
            if let Some(file) = jwks {
                let keys: Result<Value, _> = serde_json::from_str(&read(&file)?);
                body["jwks"] = keys.map_err(|error| Failure::usage(format!("`{}`: {error}", file.display())))?;
            }
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/issuers", account(&client, &of).await?);
            let made = client.json(Method::POST, &path, Some(&body)).await?;
            print(target.output, &made, &heading, vec![row(&made)]);
        }
        IssuerCommand::List { account: of, target } => {
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/issuers", account(&client, &of).await?);
            let all = client.json(Method::GET, &path, None).await?;
            print(target.output, &all, &heading, list(&all["issuers"]).iter().map(row).collect());
        }
        IssuerCommand::Deny { name, token, hours, account: of, target } => {
            let client = Client::new(&target)?;
            let until_s = hours.map(|hours| clock::wall_ms() / 1_000 + i64::from(hours) * 3_600);
            let path = denied(&client, &of, &name).await?;
            client.json(Method::POST, &path, Some(&json!({ "jti": token, "until_s": until_s }))).await?;
            println!("token `{}` of issuer `{name}` is denied", token.escape_debug());
        }
        IssuerCommand::Allow { name, token, account: of, target } => {
            let client = Client::new(&target)?;
            let path = format!("{}/{}", denied(&client, &of, &name).await?, part(&token));
            client.json(Method::DELETE, &path, None).await?;
        }
        IssuerCommand::Denied { name, account: of, target } => {
            let client = Client::new(&target)?;
            let all = client.json(Method::GET, &denied(&client, &of, &name).await?, None).await?;
            let until = |token: &Value| token["until"].as_str().unwrap_or("for good").to_owned();
            let row = |token: &Value| vec![text(&token["jti"]), until(token)];
            print(target.output, &all, &["TOKEN", "UNTIL"], list(&all["denied"]).iter().map(row).collect());
        }
        IssuerCommand::Remove { name, account: of, target } => {
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/issuers/{}", account(&client, &of).await?, part(&name));
            client.json(Method::DELETE, &path, None).await?;
        }
    }
    Ok(())
}

async fn denied(client: &Client, of: &AccountOption, issuer: &str) -> Result<String, Failure> {
    Ok(format!("/v1/accounts/{}/issuers/{}/denied", account(client, of).await?, part(issuer)))
}
