//! Value syntaxes that only the kubelet has, and the way from a flag's value into a field (FLAG-32).
//!
//! pflag has judged a value by the time a setter sees it, so setters do not fail.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use daemon::pflag::{Custom, GoDuration, Kind, Value, parse_bool, parse_int, parse_uint, quote};
use kubelet_core::quantity;

use crate::config::{
    ConfigDuration, KubeletConfiguration, MemoryReservation, Scalar, Taint, VmoduleItem,
};
use crate::{names, version};

const fn custom(type_name: &'static str, check: fn(&str) -> Result<(), String>) -> Kind {
    Kind::Custom(Custom {
        type_name,
        bare: None,
        check,
    })
}

/// IP address; empty leaves the value alone.
pub(super) const ADDRESS: Kind = custom("ip", |text| {
    if text.is_empty() || parse_ip(text).is_some() {
        Ok(())
    } else {
        Err(format!("{} is not a valid IP address", quote(text)))
    }
});

/// `-v`
pub(super) const LEVEL: Kind = custom("Level", |text| {
    parse_uint(text, 10, 31)
        .map(|_| ())
        .map_err(|error| error.to_string())
});

/// `pattern=N,...`
pub(super) const VMODULE: Kind = custom("pattern=N,...", |text| parse_vmodule(text).map(|_| ()));

/// Kubernetes quantity.
pub(super) const QUANTITY: Kind = custom("quantity", |text| {
    quantity::parse(text)
        .map(|_| ())
        .map_err(|error| error.to_string())
});

/// `0:memory=1Gi,hugepages-2Mi=512Mi;1:...`
pub(super) const RESERVED_MEMORY: Kind = custom("reserved-memory", |text| {
    parse_reserved_memory(text).map(|_| ())
});

/// `key=value:effect,...`
pub(super) const TAINTS: Kind = custom("[]v1.Taint", |text| parse_taints(text).map(|_| ()));

/// `key=value,...`; a key alone has an empty value. Names are checked later, with all of them.
pub(super) const LABELS: Kind = custom("mapStringString", |_| Ok(()));

/// Flags that Go's own `flag` package parses say less about what is wrong.
pub(super) const GO_DURATION: Kind = custom("duration", |text| {
    text.parse::<GoDuration>()
        .map(|_| ())
        .map_err(|_| "parse error".to_owned())
});
pub(super) const GO_INT: Kind = custom("int", |text| {
    parse_int(text, 0, 64)
        .map(|_| ())
        .map_err(|_| "parse error".to_owned())
});
pub(super) const GO_BOOL: Kind = Kind::Custom(Custom {
    type_name: "bool",
    bare: Some("true"),
    check: |text| {
        parse_bool(text)
            .map(|_| ())
            .map_err(|_| "parse error".to_owned())
    },
});

/// `--version`, `--version=raw`, `--version=vX.Y.Z...`
pub(super) const VERSION: Kind = Kind::Custom(Custom {
    type_name: "version",
    bare: Some("true"),
    check: |text| version::Request::parse(text).map(|_| ()),
});

/// An address as upstream takes it: IPv4 parts may have leading zeros, zones are not allowed.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let octets: Vec<u8> = text
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => Some(0),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(octets)))
}

fn parse_vmodule(text: &str) -> Result<Vec<VmoduleItem>, String> {
    text.split(',')
        .filter(|item| !item.is_empty())
        .map(|item| {
            let wrong = || format!("{} does not have the pattern=N format", quote(item));
            let (pattern, level) = item.split_once('=').ok_or_else(wrong)?;
            if pattern.is_empty() || level.is_empty() || level.contains('=') {
                return Err(wrong());
            }
            let level = parse_uint(level, 10, 31)
                .map_err(|error| format!("parsing verbosity in {}: {error}", quote(item)))?;
            Ok(VmoduleItem {
                file_pattern: pattern.to_owned(),
                verbosity: u32::try_from(level).unwrap_or(u32::MAX),
            })
        })
        .collect()
}

fn parse_reserved_memory(text: &str) -> Result<Vec<MemoryReservation>, String> {
    text.split(';')
        .filter(|_| !text.is_empty())
        .map(parse_reservation)
        .collect()
}

fn parse_reservation(text: &str) -> Result<MemoryReservation, String> {
    let wrong = || {
        format!(
            "the reserved memory has incorrect format, expected \
             numaNodeID:type=quantity[,type=quantity...], got {text}"
        )
    };
    let (node, limits) = text.split_once(':').ok_or_else(wrong)?;
    if limits.contains(':') {
        return Err(wrong());
    }
    let numa_node: i32 = node.parse().map_err(|_| {
        format!("failed to convert the NUMA node ID, exptected integer, got {node}")
    })?;
    let mut reservation = MemoryReservation {
        numa_node,
        limits: BTreeMap::new(),
    };
    for limit in limits.split(',') {
        let (resource, amount) = limit
            .split_once('=')
            .filter(|(_, amount)| !amount.contains('='))
            .ok_or_else(|| {
                format!(
                    "the reserved limit has incorrect value, expected type=quantatity, got {limit}"
                )
            })?;
        if !is_reservable_memory(resource) {
            return Err(format!(
                "memory type conversion error, unknown type: {}",
                quote(resource)
            ));
        }
        quantity::parse(amount).map_err(|_| {
            format!("failed to parse the quantatity, expected quantatity, got {amount}")
        })?;
        reservation
            .limits
            .insert(resource.to_owned(), Scalar::Text(amount.to_owned()));
    }
    Ok(reservation)
}

/// `memory` or a huge page size.
pub(crate) fn is_reservable_memory(resource: &str) -> bool {
    resource == "memory" || resource.starts_with("hugepages-")
}

fn parse_taints(text: &str) -> Result<Vec<Taint>, String> {
    let mut taints: Vec<Taint> = Vec::new();
    for spec in text.split(',').filter(|_| !text.is_empty()) {
        // A trailing dash asks for removal, which means nothing here.
        let (spec, removes) = match spec.strip_suffix('-') {
            Some(rest) => (rest, true),
            None => (spec, false),
        };
        let taint = parse_taint(spec)?;
        if removes {
            continue;
        }
        if taint.effect.is_empty() {
            return Err(format!("invalid taint spec: {spec}"));
        }
        if taints
            .iter()
            .any(|other| other.key == taint.key && other.effect == taint.effect)
        {
            return Err(format!(
                "duplicated taints with the same key and effect: {{{} {} {} <nil>}}",
                taint.key, taint.value, taint.effect
            ));
        }
        taints.push(taint);
    }
    Ok(taints)
}

fn parse_taint(spec: &str) -> Result<Taint, String> {
    let wrong = || format!("invalid taint spec: {spec}");
    let mut taint = Taint::default();
    match spec.split(':').collect::<Vec<_>>()[..] {
        [key] => key.clone_into(&mut taint.key),
        [pair, effect] => {
            if !is_taint_effect(effect) {
                return Err(format!(
                    "invalid taint effect: {effect}, unsupported taint effect"
                ));
            }
            effect.clone_into(&mut taint.effect);
            match pair.split('=').collect::<Vec<_>>()[..] {
                [key] => key.clone_into(&mut taint.key),
                [key, value] => {
                    let problems = names::label_value_problems(value);
                    if !problems.is_empty() {
                        return Err(format!("{}, {}", wrong(), problems.join("; ")));
                    }
                    key.clone_into(&mut taint.key);
                    value.clone_into(&mut taint.value);
                }
                _ => return Err(wrong()),
            }
        }
        _ => return Err(wrong()),
    }
    let problems = names::qualified_name_problems(&taint.key);
    if problems.is_empty() {
        Ok(taint)
    } else {
        Err(format!("{}, {}", wrong(), problems.join("; ")))
    }
}

/// The effects that a taint may have.
pub(crate) fn is_taint_effect(effect: &str) -> bool {
    matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute")
}

/// Labels of every use of `--node-labels`, later ones winning.
pub(crate) fn labels(uses: &[String]) -> BTreeMap<String, String> {
    uses.iter()
        .flat_map(|text| text.split(','))
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.trim().to_owned(), value.trim().to_owned())
        })
        .collect()
}

fn wrong_kind(value: &Value) -> ! {
    unreachable!("the table gives this flag another kind than {value:?}")
}

pub(super) fn bool(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        other => wrong_kind(other),
    }
}

pub(super) fn int64(value: &Value) -> i64 {
    match value {
        Value::Int(value) => *value,
        other => wrong_kind(other),
    }
}

pub(super) fn int32(value: &Value) -> i32 {
    // pflag has checked the range of Int32 flags.
    i32::try_from(int64(value)).unwrap_or(i32::MAX)
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => wrong_kind(other),
    }
}

pub(super) fn duration(value: &Value) -> ConfigDuration {
    match value {
        Value::Duration(duration) => ConfigDuration(*duration),
        other => wrong_kind(other),
    }
}

pub(super) fn list(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items.clone(),
        other => wrong_kind(other),
    }
}

pub(super) fn map(value: &Value) -> BTreeMap<String, String> {
    match value {
        Value::Map { entries, .. } => entries.clone(),
        other => wrong_kind(other),
    }
}

pub(super) fn multimap(value: &Value) -> BTreeMap<String, Vec<String>> {
    match value {
        Value::Multimap(entries) => entries.clone(),
        other => wrong_kind(other),
    }
}

fn uses(value: &Value) -> &[String] {
    match value {
        Value::Uses(uses) => uses,
        other => wrong_kind(other),
    }
}

fn last(value: &Value) -> &str {
    uses(value).last().map_or("", String::as_str)
}

pub(super) fn ip(field: &mut String, value: &Value) {
    if let Some(address) = uses(value).iter().rfind(|text| !text.is_empty()) {
        address.clone_into(field);
    }
}

pub(super) fn quantity(value: &Value) -> Scalar {
    Scalar::Text(last(value).to_owned())
}

pub(super) fn level(value: &Value) -> u32 {
    parse_uint(last(value), 10, 31)
        .ok()
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or_default()
}

pub(super) fn add_vmodule(config: &mut KubeletConfiguration, value: &Value) {
    let items = uses(value)
        .iter()
        .filter_map(|text| parse_vmodule(text).ok())
        .flatten();
    config.logging.vmodule.get_or_insert_default().extend(items);
}

pub(super) fn set_reserved_memory(config: &mut KubeletConfiguration, value: &Value) {
    let reservations = uses(value)
        .iter()
        .filter_map(|text| parse_reserved_memory(text).ok())
        .flatten();
    config.reserved_memory = Some(reservations.collect());
}

pub(super) fn set_taints(config: &mut KubeletConfiguration, value: &Value) {
    config.register_with_taints = Some(parse_taints(last(value)).unwrap_or_default());
}

pub(super) fn merge_gates(config: &mut KubeletConfiguration, value: &Value) {
    match value {
        Value::BoolMap(gates) => {
            let all = config.feature_gates.get_or_insert_default();
            all.extend(gates.iter().map(|(name, on)| (name.clone(), *on)));
        }
        other => wrong_kind(other),
    }
}
