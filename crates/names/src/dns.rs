//! Questions to name servers, in Go's order (`net`, `tryOneName`): each completed name for addresses of
//! both kinds at once; each server in turn, as often as the configuration says; a server that knows
//! the name or knows that there is none ends the asking.

use std::net::{IpAddr, SocketAddr};

use futures_util::future;
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{
        ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ServerOrderingStrategy,
    },
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RecordType},
    },
};

use crate::{LookupError, Why, resolv_conf::ResolvConf};

/// One name server and the client for it.
type Server = (SocketAddr, TokioResolver);

/// The addresses of a name, IPv4 first; at least one.
pub(crate) async fn ask(
    config: &ResolvConf,
    port: u16,
    name: &str,
) -> Result<Vec<IpAddr>, LookupError> {
    let failed = |server: Option<SocketAddr>, why: Why| LookupError {
        name: name.to_owned(),
        server,
        why,
    };
    let mut servers: Vec<Server> = Vec::with_capacity(config.servers.len());
    for ip in &config.servers {
        let address = SocketAddr::new(*ip, port);
        let client = client(config, address).map_err(|error| failed(Some(address), why(error)))?;
        servers.push((address, client));
    }
    let mut failure = None;
    for full in config.names(name) {
        let Ok(question) = Name::from_ascii(&full) else {
            continue;
        };
        let answers = future::join(
            of_kind(config, &servers, &question, RecordType::A),
            of_kind(config, &servers, &question, RecordType::AAAA),
        )
        .await;
        let mut addresses = Vec::new();
        for answer in [answers.0, answers.1] {
            match answer {
                Ok(found) => addresses.extend(found),
                // What was said of the name itself tells more than what was said of a longer one.
                Err(error) if failure.is_none() || full.strip_suffix('.') == Some(name) => {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        if !addresses.is_empty() {
            return Ok(addresses);
        }
    }
    let (server, why) =
        failure.map_or((None, Why::NoSuchHost), |(server, why)| (Some(server), why));
    Err(failed(server, why))
}

/// The addresses of one kind.
async fn of_kind(
    config: &ResolvConf,
    servers: &[Server],
    question: &Name,
    kind: RecordType,
) -> Result<Vec<IpAddr>, (SocketAddr, Why)> {
    let mut last = None;
    for _ in 0..config.attempts {
        for (server, client) in servers {
            let why = match client.lookup(question.clone(), kind).await {
                Ok(answer) => {
                    let records = answer.answers().iter();
                    let found: Vec<IpAddr> =
                        records.filter_map(|record| record.data.ip_addr()).collect();
                    if !found.is_empty() {
                        return Ok(found);
                    }
                    Why::NoSuchHost
                }
                Err(error) => why(error),
            };
            if matches!(why, Why::NoSuchHost) {
                return Err((*server, why));
            }
            last = Some((*server, why));
        }
    }
    // Nobody was asked only where there is nobody.
    Err(last.unwrap_or((SocketAddr::from(([0, 0, 0, 0], 0)), Why::NoSuchHost)))
}

/// A client that asks one server, once, over UDP; and over TCP when the answer has no room in UDP.
fn client(config: &ResolvConf, server: SocketAddr) -> Result<TokioResolver, NetError> {
    let ways = if config.use_tcp {
        vec![ConnectionConfig::tcp()]
    } else {
        vec![ConnectionConfig::udp(), ConnectionConfig::tcp()]
    };
    let ways = ways.into_iter().map(|mut way| {
        way.port = server.port();
        way
    });
    let server = NameServerConfig::new(server.ip(), true, ways.collect());
    let mut builder = Resolver::builder_with_config(
        ResolverConfig::from_name_servers(vec![server]),
        TokioRuntimeProvider::default(),
    );
    let options = builder.options_mut();
    options.timeout = config.timeout;
    options.attempts = 0;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.num_concurrent_reqs = 1;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    builder.build()
}

fn why(error: NetError) -> Why {
    match error {
        NetError::Dns(
            DnsError::ResponseCode(code)
            | DnsError::NoRecordsFound(NoRecords {
                response_code: code,
                ..
            }),
        ) => match code {
            ResponseCode::NXDomain | ResponseCode::NoError => Why::NoSuchHost,
            _ => Why::Misbehaving,
        },
        NetError::Timeout => Why::Timeout,
        NetError::Io(error) => Why::Unreachable(error.to_string()),
        NetError::NoConnections | NetError::Busy => Why::Unreachable(error.to_string()),
        _ => Why::Misbehaving,
    }
}
