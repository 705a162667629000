//! Metrics of a pod's network (CMP-18).

use cri_api::v1::MetricType::Counter;
use node_os::proc::InterfaceCounters;

use super::metric::{Metric, Values, metric, with};

/// A pod's interfaces.
pub(super) type Interfaces = Vec<InterfaceCounters>;

/// What each is labelled with.
const INTERFACE: &[&str] = &["interface"];

fn each(all: &Interfaces, value: fn(&InterfaceCounters) -> u64) -> Values {
    all.iter()
        .map(|interface| (vec![interface.name.clone()], value(interface)))
        .collect()
}

/// Metrics of pods.
pub(super) const NETWORK: &[Metric<Interfaces>] = &[
    with(
        INTERFACE,
        metric(
            Counter,
            "container_network_receive_bytes_total",
            "Bytes received",
            |all| each(all, |i| i.rx_bytes),
        ),
    ),
    with(
        INTERFACE,
        metric(
            Counter,
            "container_network_receive_packets_total",
            "Packets received",
            |all| each(all, |i| i.rx_packets),
        ),
    ),
    with(
        INTERFACE,
        metric(
            Counter,
            "container_network_receive_packets_dropped_total",
            "Packets dropped while receiving",
            |all| each(all, |i| i.rx_dropped),
        ),
    ),
    with(
        INTERFACE,
        metric(
            Counter,
            "container_network_receive_errors_total",
            "Errors while receiving",
            |all| each(all, |i| i.rx_errors),
        ),
    ),
    with(
        INTERFACE,
        metric(
            Counter,
            "container_network_transmit_bytes_total",
            "Bytes sent",
            |all| each(all, |i| i.tx_bytes),
        ),
    ),
    with(
        INTERFACE,
        metric(
            Counter,
            "container_network_transmit_packets_total",
            "Packets sent",
            |all| each(all, |i| i.tx_packets),
        ),
    ),
    with(
        INTERFACE,
        metric(
            Counter,
            "container_network_transmit_packets_dropped_total",
            "Packets dropped while sending",
            |all| each(all, |i| i.tx_dropped),
        ),
    ),
    with(
        INTERFACE,
        metric(
            Counter,
            "container_network_transmit_errors_total",
            "Errors while sending",
            |all| each(all, |i| i.tx_errors),
        ),
    ),
];
