//! `weir placement`, `weir storage-node`, `weir gateway`: one service per process.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use placement::StoreAt;
use service::drain::{self, DrainHandle};
use service::tls::TlsFiles;
use storage_node::{Settings, StorageNode};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use types::Endpoint;

use crate::cli::{GatewayOptions, PlacementOptions, StorageNodeOptions, TlsOptions};
use crate::output::Failure;

/// How long what is under way may take once the drain has begun.
const DRAIN: Duration = Duration::from_millis(500);

/// Refuses addresses beyond loopback unless that was asked for by name.
pub fn check_bind(addresses: &[SocketAddr], is_allowed: bool) -> Result<(), Failure> {
    for address in addresses {
        if !address.ip().is_loopback() {
            if !is_allowed {
                return Err(Failure::usage(format!(
                    "{address} is reachable from other machines and nobody is authenticated; --insecure-bind allows it"
                )));
            }
            tracing::warn!(%address, "reachable from other machines, and nobody is authenticated");
        }
    }
    Ok(())
}

/// The same for a gateway's listeners: where clients must log in they may be reached from everywhere.
pub fn check_gateway_bind(addresses: &[SocketAddr], is_login_required: bool, is_allowed: bool) -> Result<(), Failure> {
    if !is_login_required {
        return check_bind(addresses, is_allowed);
    }
    for address in addresses.iter().filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(%address, "reachable from other machines without TLS: what is sent there can be read on its way");
    }
    Ok(())
}

/// With certificates placement is spoken to by TLS, without them it is not.
pub fn check_placement(urls: &[String], has_trust: bool) -> Result<(), Failure> {
    let wanted = if has_trust { "https://" } else { "http://" };
    match urls.iter().find(|url| !url.starts_with(wanted)) {
        Some(url) if has_trust => {
            Err(Failure::usage(format!("--internal-ca is given: placement is at https://, not at `{url}`")))
        }
        Some(url) => Err(Failure::usage(format!("`{url}` needs --internal-ca, --internal-cert and --internal-key"))),
        None => Ok(()),
    }
}

pub async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| Failure::failed(format!("{address}: {error}")))
}

/// Returns at SIGTERM or SIGINT, after the drain.
pub async fn until_ended(handle: DrainHandle) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    handle.begin();
    tokio::time::sleep(DRAIN).await;
    Ok(())
}

/// The store that `redb:DIR` or `etcd:URL[,URL]` names.
pub fn store_at(store: &str) -> Result<StoreAt, Failure> {
    let wrong = || Failure::usage(format!("`{store}` is no metadata store: redb:DIR and etcd:URL[,URL] are"));
    match store.split_once(':') {
        Some(("redb", dir)) if !dir.is_empty() => Ok(StoreAt::Redb(dir.into())),
        Some(("etcd", urls)) => {
            let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
            let is_url =
                |url: &String| url.strip_prefix("http://").is_some_and(|rest| !rest.trim_matches('/').is_empty());
            if urls.iter().all(is_url) { Ok(StoreAt::Etcd(urls)) } else { Err(wrong()) }
        }
        _ => Err(wrong()),
    }
}

pub async fn placement(options: PlacementOptions) -> Result<(), Failure> {
    let trust = options.trust.files();
    if trust.is_none() {
        check_bind(&[options.listen], options.insecure_bind)?;
    }
    let store = store_at(&options.store)?;
    let listener = bind(options.listen).await?;
    let (handle, drain) = drain::channel();
    placement::start(store, options.seal_key, trust, Duration::from_secs(options.park_after), listener, drain)
        .await
        .map_err(|error| Failure::failed(error.to_string()))?;
    println!("placement is ready");
    until_ended(handle).await
}

pub async fn storage_node(options: StorageNodeOptions) -> Result<(), Failure> {
    let trust = options.trust.files();
    check_placement(&options.placement, trust.is_some())?;
    // Health and metrics are plain in any case.
    if trust.is_none() {
        check_bind(&[options.listen], options.insecure_bind)?;
    }
    check_bind(&[options.admin], options.insecure_bind)?;
    let listener = bind(options.listen).await?;
    let admin = bind(options.admin).await?;
    let name = options.name.unwrap_or_else(|| format!("{}-{}", options.az, options.listen.port()));
    let settings = Settings {
        name,
        az: options.az,
        data: options.data,
        advertise: options.advertise.unwrap_or_else(|| options.listen.to_string()),
        placement: options.placement,
        trust,
    };
    let (handle, drain) = drain::channel();
    let node = StorageNode::start(settings, listener, admin, drain).await;
    let node = node.map_err(|error| Failure::failed(error.to_string()))?;
    tracing::info!(direct = node.is_direct(), flush_us = node.flush_us(), "the journal is open");
    println!("storage-node is ready");
    until_ended(handle).await?;
    node.close();
    Ok(())
}

/// `HOST:PORT`, or `[ADDRESS]:PORT`.
pub fn endpoint(text: &str) -> Result<Endpoint, Failure> {
    let parts = text.rsplit_once(':');
    let endpoint = parts.and_then(|(host, port)| {
        let host = host.trim_matches(['[', ']']).to_owned();
        Some(Endpoint { host, port: port.parse().ok()? })
    });
    endpoint.ok_or_else(|| Failure::usage(format!("`{text}` is not HOST:PORT")))
}

fn is_loopback(endpoint: &Endpoint) -> bool {
    endpoint.host == "localhost" || endpoint.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Binds what the options of TLS name. Beyond loopback clients must log in, or be known by their certificates.
pub async fn bind_tls(
    options: &TlsOptions,
    files: Option<TlsFiles>,
    is_login_required: bool,
    is_allowed: bool,
) -> Result<(Option<TcpListener>, Option<TcpListener>), Failure> {
    let addresses: Vec<SocketAddr> = options.kafka_tls.into_iter().chain(options.https).collect();
    if !addresses.is_empty() && files.is_none() {
        return Err(Failure::usage(
            "--kafka-tls and --https need --tls-cert and --tls-key; `weir certs dev` makes some",
        ));
    }
    if !is_login_required && files.as_ref().is_none_or(|files| files.client_ca.is_none()) {
        check_bind(&addresses, is_allowed)?;
    }
    let listener = async |address: Option<SocketAddr>| match address {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
    };
    Ok((listener(options.kafka_tls).await?, listener(options.https).await?))
}

/// Binds where health and metrics are told without a login.
pub async fn bind_admin(address: Option<SocketAddr>, is_allowed: bool) -> Result<Option<TcpListener>, Failure> {
    let Some(address) = address else { return Ok(None) };
    check_bind(&[address], is_allowed)?;
    bind(address).await.map(Some)
}

pub async fn gateway(options: GatewayOptions) -> Result<(), Failure> {
    let is_login_required = options.login.require_login;
    let trust = options.trust.files();
    check_placement(&options.placement, trust.is_some())?;
    check_gateway_bind(&[options.kafka, options.http], is_login_required, options.insecure_bind)?;
    let is_named = options.advertise_kafka.is_some();
    let advertise = endpoint(&options.advertise_kafka.unwrap_or_else(|| options.kafka.to_string()))?;
    let advertise_tls = options.tls.advertise_kafka_tls.clone().or(options.tls.kafka_tls.map(|tls| tls.to_string()));
    let shown = advertise_tls.as_deref().map(endpoint).transpose()?;
    if shown.is_some_and(|shown| !is_loopback(&shown)) && is_loopback(&advertise) && !is_named {
        let message = "gateways are told apart by where clients without TLS are told to connect, and every machine has a \
                       loopback: give --advertise-kafka too";
        return Err(Failure::usage(message));
    }
    let tls = options.tls.files();
    let (kafka_tls, https) = bind_tls(&options.tls, tls.clone(), is_login_required, options.insecure_bind).await?;
    let (kafka, http) = (bind(options.kafka).await?, bind(options.http).await?);
    let settings = gateway::Settings {
        az: options.az,
        advertise,
        advertise_tls: advertise_tls.filter(|_| kafka_tls.is_some()).as_deref().map(endpoint).transpose()?,
        placement: options.placement,
        is_login_required,
        trust,
        issuers: options.login.issuers(),
        audit_log: options.login.audit_log.clone(),
        has_audit_topics: options.login.audit_topics,
        host_names: options.login.host_name.clone(),
        data: options.data,
    };
    let (handle, drain) = drain::channel();
    let proxies = options.login.proxies();
    let admin = bind_admin(options.login.admin, options.insecure_bind).await?;
    let listeners = gateway::Listeners { kafka, http, kafka_tls, https, admin, tls, proxies };
    gateway::start(settings, listeners, drain).await?;
    println!("gateway is ready");
    until_ended(handle).await
}
