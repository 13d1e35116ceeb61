//! Options of TLS, and `weir certs`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use service::tls::TlsFiles;
use service::trust::TrustFiles;

/// What listeners with TLS need.
#[derive(Debug, Args)]
pub struct TlsOptions {
    /// Address for Kafka clients that speak TLS; there is none unless given
    #[arg(long, value_name = "ADDR", env = "WEIR_KAFKA_TLS")]
    pub kafka_tls: Option<SocketAddr>,
    /// Where those are told to connect; the address itself unless given
    #[arg(long, value_name = "HOST:PORT", env = "WEIR_ADVERTISE_KAFKA_TLS")]
    pub advertise_kafka_tls: Option<String>,
    /// Address for HTTPS clients, HTTP/1.1 and HTTP/2; there is none unless given
    #[arg(long, value_name = "ADDR", env = "WEIR_HTTPS")]
    pub https: Option<SocketAddr>,
    /// The certificate, then those that it is signed by, as PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "WEIR_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// Its key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "WEIR_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Clients must show a certificate that one of these signed (PEM)
    #[arg(long, value_name = "FILE", env = "WEIR_TLS_CLIENT_CA")]
    pub tls_client_ca: Option<PathBuf>,
    /// Revoked certificates of clients: a list (PEM) of each CA that signed one; read again when it changes, and open connections
    /// of what it names end
    #[arg(long, value_name = "FILE", env = "WEIR_TLS_CLIENT_CRL", requires = "tls_client_ca")]
    pub tls_client_crl: Option<PathBuf>,
}

impl TlsOptions {
    /// The files, if a certificate was given.
    pub fn files(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        Some(TlsFiles { cert, key, client_ca: self.tls_client_ca.clone(), client_crl: self.tls_client_crl.clone() })
    }

    /// There is a listener with TLS.
    pub fn is_used(&self) -> bool {
        self.kafka_tls.is_some() || self.https.is_some()
    }
}

/// How services prove to each other what they are: all three files, or none.
#[derive(Debug, Clone, Args)]
pub struct TrustOptions {
    /// Speak TLS with other services, and take those for ours whose certificates these (PEM) signed; for a CA that signs for
    /// nothing else. Placement's addresses begin with https:// then
    #[arg(long, value_name = "FILE", env = "WEIR_INTERNAL_CA", requires_all = ["internal_cert", "internal_key"])]
    pub internal_ca: Option<PathBuf>,
    /// The service's own certificate; its alternative names say what it is: URI urn:weir:placement, urn:weir:gateway,
    /// urn:weir:storage-node or urn:weir:operator; and urn:weir:node:NAME which storage node (its --name)
    #[arg(long, value_name = "FILE", env = "WEIR_INTERNAL_CERT", requires = "internal_ca")]
    pub internal_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", env = "WEIR_INTERNAL_KEY", requires = "internal_ca")]
    pub internal_key: Option<PathBuf>,
    /// Revoked certificates of services: a list (PEM) of that CA, and of each below it; read again when it changes, and open
    /// connections of what it names end
    #[arg(long, value_name = "FILE", env = "WEIR_INTERNAL_CRL", requires = "internal_ca")]
    pub internal_crl: Option<PathBuf>,
}

impl TrustOptions {
    pub fn files(&self) -> Option<TrustFiles> {
        let (cert, key) = (self.internal_cert.clone()?, self.internal_key.clone()?);
        Some(TrustFiles { ca: self.internal_ca.clone()?, cert, key, crl: self.internal_crl.clone() })
    }
}

/// A gateway's Kafka address, and how to speak to it.
#[derive(Debug, Clone, Args)]
pub struct KafkaTarget {
    /// A gateway's Kafka address
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092", env = "WEIR_KAFKA")]
    pub kafka: String,
    /// Speak TLS there, and trust what these certificates (PEM) signed
    #[arg(long, value_name = "FILE", env = "WEIR_KAFKA_CA")]
    pub kafka_ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make a local CA and certificates signed by it, to try TLS with; not for production
    ///
    /// Writes ca.pem, server.pem, server-key.pem, client.pem and client-key.pem for clients, and internal-ca.pem with a certificate of
    /// each service for --internal-ca: of storage nodes one each. Both CAs come with a revocation list that names nobody yet
    /// (crl.pem, internal-crl.pem). A CA that is there already is used again, so
    /// that clients which trust it need no change; delete the folder to begin anew. The CA's key stays in ca-key.pem.
    #[command(after_help = "Example:\n  weir certs dev --dir certs --host gateway.example\n  \
          weir gateway --https 127.0.0.1:8443 --tls-cert certs/server.pem --tls-key certs/server-key.pem\n  \
          curl --cacert certs/ca.pem https://localhost:8443/v1/topics")]
    Dev {
        /// Where they are written
        #[arg(long, value_name = "DIR", default_value = "./certs")]
        dir: PathBuf,
        /// A name or address of the server beside localhost, 127.0.0.1 and ::1; again for several
        #[arg(long, value_name = "NAME")]
        host: Vec<String>,
        /// The name of a storage node, as its --name has it; again for several
        #[arg(long, value_name = "NAME", default_values = ["n1", "n2", "n3"], value_parser = super::plain_name)]
        node: Vec<String>,
    },
    /// Revoke a certificate that `weir certs dev` made: put it on the list of its CA
    ///
    /// Services and gateways that were given the list (--internal-crl internal-crl.pem, --tls-client-crl crl.pem) end its
    /// connections, and take no new ones, within ten seconds.
    #[command(after_help = "Example:\n  weir certs revoke --dir certs internal-storage-node-n2.pem")]
    Revoke {
        /// Where `weir certs dev` wrote
        #[arg(long, value_name = "DIR", default_value = "./certs")]
        dir: PathBuf,
        /// The certificate's file there
        #[arg(value_name = "CERT")]
        cert: PathBuf,
    },
}
