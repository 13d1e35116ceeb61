//! The network between services, and what a fault does to it.
//!
//! As root each storage node has a network namespace of its own, joined to the others by a bridge, and nftables drops
//! packets: as a cut cable does, one way or both, between any two nodes. Elsewhere a TCP proxy stands before each node
//! and holds what goes through it; single pairs cannot be cut then.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::proxy::{self, Weather};
use crate::{free_port, has_command};

/// Of the bridge, where everything but storage nodes is.
const HUB: &str = "10.77.0.1";
const ALL: &str = "10.77.0.0/24";

/// See the module's text.
#[derive(Debug)]
pub enum Network {
    Proxies(Vec<Arc<Weather>>),
    Namespaces { prefix: String, count: usize },
}

/// Where a storage node listens, where others reach it, and the namespace that it runs in.
#[derive(Debug)]
pub struct Place {
    pub listen: String,
    pub public: String,
    pub admin: String,
    pub namespace: Option<String>,
}

fn sh(script: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Network {
    /// Namespaces where this process may make them. The calling thread, and all that it starts, moves to the bridge's.
    pub fn begin() -> Self {
        let prefix = format!("weir{}", std::process::id());
        let is_equipped = has_command("nft") && has_command("ip");
        let probe = format!(
            "ip netns add {prefix}p; ip netns exec {prefix}p nft add table inet weather || no=1; ip netns del {prefix}p; test -z \"$no\""
        );
        // SAFETY: gives this thread an empty network of its own.
        if !is_equipped || !sh(&probe) || unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            println!("chaos without namespaces (they need root, ip and nft): single pairs of nodes are not cut");
            return Self::Proxies(Vec::new());
        }
        let bridge =
            format!("ip link set lo up; ip link add hub type bridge; ip addr add {HUB}/24 dev hub; ip link set hub up");
        assert!(sh(&bridge), "a bridge");
        Self::Namespaces { prefix, count: 0 }
    }

    /// Where a service listens that is no storage node.
    pub fn hub(&self) -> String {
        match self {
            Self::Proxies(_) => format!("127.0.0.1:{}", free_port()),
            Self::Namespaces { .. } => format!("{HUB}:{}", free_port()),
        }
    }

    /// What services need to listen there.
    pub fn flags(&self) -> &'static [&'static str] {
        match self {
            Self::Proxies(_) => &[],
            // Nobody else is on this network.
            Self::Namespaces { .. } => &["--insecure-bind"],
        }
    }

    /// A place for the next storage node.
    pub fn add(&mut self) -> Place {
        match self {
            Self::Proxies(all) => {
                let [listen, public, admin] = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
                all.push(proxy::start(&public, listen.clone()));
                Place { listen, public, admin, namespace: None }
            }
            Self::Namespaces { prefix, count } => {
                let (name, number) = (format!("{prefix}n{count}"), *count);
                let ip = address(number);
                *count += 1;
                // Names of links are short.
                let made = sh(&format!(
                    "ip netns add {name}
                     ip link add w{number} type veth peer name eth0 netns {name}
                     ip link set w{number} master hub up
                     ip -n {name} addr add {ip}/24 dev eth0
                     ip -n {name} link set eth0 up
                     ip -n {name} link set lo up
                     ip netns exec {name} nft -f - <<'END'
                     table inet weather {{
                       set from {{ type ipv4_addr; flags interval; auto-merge; }}
                       set to {{ type ipv4_addr; flags interval; auto-merge; }}
                       chain loss {{ }}
                       chain in {{ type filter hook input priority 0; ip saddr @from drop; jump loss; }}
                       chain out {{ type filter hook output priority 0; ip daddr @to drop; }}
                     }}\nEND"
                ));
                assert!(made, "a namespace");
                let (listen, admin) = (format!("{ip}:7100"), format!("{ip}:7200"));
                Place { public: listen.clone(), listen, admin, namespace: Some(name) }
            }
        }
    }

    fn nft(&self, node: usize, rules: &str) {
        if let Self::Namespaces { prefix, .. } = self {
            assert!(sh(&format!("ip netns exec {prefix}n{node} nft '{rules}'")), "nft {rules}");
        }
    }

    /// Nothing arrives at a node, or nothing leaves it.
    pub fn cut(&self, node: usize, is_in: bool, is_out: bool) {
        match self {
            Self::Proxies(all) => {
                all[node].is_cut_in.store(is_in, Ordering::Relaxed);
                all[node].is_cut_out.store(is_out, Ordering::Relaxed);
            }
            Self::Namespaces { .. } => {
                for (set, _) in [("from", is_in), ("to", is_out)].into_iter().filter(|(_, is_cut)| *is_cut) {
                    self.nft(node, &format!("add element inet weather {set} {{ {ALL} }}"));
                }
            }
        }
    }

    /// Nothing of `from` arrives at `to`; false where that cannot be done.
    pub fn cut_between(&self, from: usize, to: usize) -> bool {
        let is_possible = matches!(self, Self::Namespaces { .. });
        self.nft(to, &format!("add element inet weather from {{ {} }}", address(from)));
        is_possible
    }

    /// A slow network: each piece waits so long, or every so many packets of a hundred are lost.
    pub fn slow(&self, node: usize, amount: u64) {
        match self {
            Self::Proxies(all) => all[node].delay_ms.store(amount, Ordering::Relaxed),
            Self::Namespaces { .. } => {
                let share = 1 + amount / 4;
                self.nft(node, &format!("add rule inet weather loss numgen random mod 100 < {share} drop"));
            }
        }
    }

    pub fn heal(&self, node: usize) {
        match self {
            Self::Proxies(all) => all[node].heal(),
            Self::Namespaces { .. } => {
                for rules in
                    ["flush set inet weather from", "flush set inet weather to", "flush chain inet weather loss"]
                {
                    self.nft(node, rules);
                }
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Self::Namespaces { prefix, count } = self {
            for node in 0..*count {
                sh(&format!("ip netns del {prefix}n{node}"));
            }
        }
    }
}

fn address(node: usize) -> String {
    format!("10.77.0.{}", 11 + node)
}
