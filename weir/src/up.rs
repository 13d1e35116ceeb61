//! `weir up`: placement, storage nodes in three zones and a gateway, in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use placement::StoreAt;
use service::drain;
use service::tls::TlsFiles;
use storage_node::{Settings, StorageNode};
use types::Endpoint;

use crate::certs;
use crate::cli::UpOptions;
use crate::output::Failure;
use crate::services::{bind, bind_admin, bind_tls, check_gateway_bind, endpoint, until_ended};

const ZONES: [&str; 3] = ["az-a", "az-b", "az-c"];

pub async fn run(options: UpOptions) -> Result<(), Failure> {
    let is_login_required = options.login.require_login;
    check_gateway_bind(&[options.kafka, options.http], is_login_required, options.insecure_bind)?;
    let tls = match options.tls.files() {
        None if options.tls.is_used() => Some(TlsFiles {
            client_ca: options.tls.tls_client_ca.clone(),
            client_crl: options.tls.tls_client_crl.clone(),
            ..certs::for_development(&options.data.join("certs"))?
        }),
        files => files,
    };
    let (kafka_tls, https) = bind_tls(&options.tls, tls.clone(), is_login_required, options.insecure_bind).await?;
    let (kafka, http) = (bind(options.kafka).await?, bind(options.http).await?);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (handle, drain) = drain::channel();

    let listener = bind(any).await?;
    let placement = vec![format!("http://{}", listener.local_addr()?)];
    let started = placement::start(
        StoreAt::Redb(options.data.join("placement")),
        None,
        None,
        Duration::from_secs(types::limits::PARK_AFTER_S),
        listener,
        drain.clone(),
    )
    .await;
    started.map_err(|error| Failure::failed(error.to_string()))?;

    let mut starting = Vec::new();
    for number in 0..options.storage_nodes {
        let az = ZONES[usize::from(number) % ZONES.len()];
        // Two nodes of one zone are told apart by a number; the first has the zone's name alone.
        let name = match usize::from(number) / ZONES.len() {
            0 => az.to_owned(),
            more => format!("{az}-{}", more + 1),
        };
        let (listener, admin) = (bind(any).await?, bind(any).await?);
        let settings = Settings {
            data: options.data.join(&name),
            name,
            az: az.to_owned(),
            advertise: listener.local_addr()?.to_string(),
            placement: placement.clone(),
            trust: None,
        };
        starting.push(tokio::spawn(StorageNode::start(settings, listener, admin, drain.clone())));
    }
    let mut nodes = Vec::new();
    for node in starting {
        let node = node.await.map_err(|error| Failure::failed(error.to_string()))?;
        nodes.push(node.map_err(|error| Failure::failed(error.to_string()))?);
    }
    let advertised = kafka.local_addr()?;
    let served = http.local_addr()?;
    let at = |address: SocketAddr| Endpoint { host: address.ip().to_string(), port: address.port() };
    let named = options.tls.advertise_kafka_tls.as_deref().map(endpoint).transpose()?;
    let tls_addresses = [&kafka_tls, &https].map(|listener| listener.as_ref().and_then(|l| l.local_addr().ok()));
    let settings = gateway::Settings {
        az: None,
        advertise: at(advertised),
        advertise_tls: tls_addresses[0].map(|address| named.unwrap_or_else(|| at(address))),
        placement,
        is_login_required,
        trust: None,
        issuers: options.login.issuers(),
        audit_log: options.login.audit_log.clone(),
        has_audit_topics: options.login.audit_topics,
        host_names: options.login.host_name.clone(),
        // All of it starts together.
        data: None,
    };
    let admin = bind_admin(options.login.admin, options.insecure_bind).await?;
    let proxies = options.login.proxies();
    let listeners = gateway::Listeners { kafka, http, kafka_tls, https, admin, tls: tls.clone(), proxies };
    gateway::start(settings, listeners, drain).await?;
    welcome(&options, advertised, served, &nodes);
    if let Some(files) = tls {
        welcome_tls(tls_addresses, &files);
    }
    println!("weir is ready");
    until_ended(handle).await?;
    nodes.iter().for_each(StorageNode::close);
    Ok(())
}

fn welcome_tls([kafka, https]: [Option<SocketAddr>; 2], files: &TlsFiles) {
    let ca = files.cert.with_file_name(certs::CA);
    for (what, address) in
        [("Kafka with TLS", kafka.map(|a| a.to_string())), ("HTTPS", https.map(|a| format!("https://{a}")))]
    {
        if let Some(address) = address {
            println!("{what}  {address}");
        }
    }
    if ca.exists() {
        println!("its CA {}\n", ca.display());
    }
}

fn welcome(options: &UpOptions, kafka: SocketAddr, http: SocketAddr, nodes: &[StorageNode]) {
    let count = nodes.len();
    let is_direct = nodes.iter().all(StorageNode::is_direct);
    let flush_us = nodes.iter().map(StorageNode::flush_us).max().unwrap_or_default();
    // What the commands assume needs no telling.
    let server = if http.port() == 8080 { String::new() } else { format!(" --server http://{http}") };
    let how =
        if is_direct { "past the page cache (O_DIRECT|O_DSYNC)" } else { "through the page cache, then fdatasync" };
    println!(
        "Kafka  {kafka}
HTTP   http://{http}
data   {data}

Try:
  echo hello | kcat -P -b {kafka} -t greetings
  curl 'http://{http}/v1/topics/greetings/partitions/0/records?offset=earliest'
  weir consume greetings -o beginning -e{server}

{count} nodes, one disk: survives kill -9 and power loss, not the loss of this disk.
The journal is written {how}; one durable write takes {flush_ms:.2} ms.
",
        data = options.data.display(),
        flush_ms = flush_us as f64 / 1000.0,
    );
}
