//! What plugins answer, in every version of the specification from 0.1.0 to 1.1.0 (CNI-12).
//!
//! An answer is kept as it came, so that fields that we don't know reach the next plugin and the
//! cache. Only where another version is asked for is it taken apart and put together anew.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

/// An answer is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResultError {
    /// Not a JSON object.
    #[error("failed to unmarshal raw result {0:?}")]
    Json(String, #[source] serde_json::Error),
    /// A version from nowhere.
    #[error("unsupported CNI result version {0:?}")]
    Version(String),
    /// An address that is none.
    #[error("invalid CIDR address: {0}")]
    Address(String),
    /// Versions before 0.3.0 can't say that there is no address.
    #[error("cannot convert: no valid IP addresses")]
    NoAddress,
}

/// How a version writes addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `ip4` and `ip6`.
    Pair,
    /// `ips` with `version`.
    Versioned,
    /// `ips` without it.
    Plain,
}

impl Form {
    fn of(version: &str) -> Result<Self, ResultError> {
        match version {
            "0.1.0" | "0.2.0" => Ok(Self::Pair),
            "0.3.0" | "0.3.1" | "0.4.0" => Ok(Self::Versioned),
            "1.0.0" | "1.1.0" => Ok(Self::Plain),
            other => Err(ResultError::Version(other.to_owned())),
        }
    }
}

/// The answer of a plugin, or of a chain of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CniResult {
    version: String,
    form: Form,
    raw: Map<String, Value>,
}

/// One address of an answer.
#[derive(Debug, Clone, PartialEq)]
struct Address {
    /// The object, without `version`; `address` is in CIDR form.
    fields: Map<String, Value>,
    ip: IpAddr,
}

impl CniResult {
    /// Reads what a plugin printed. Without a version it is the configuration's.
    ///
    /// # Errors
    /// When it is no answer.
    pub(super) fn parse(stdout: &[u8], config_version: &str) -> Result<Self, ResultError> {
        let raw: Option<Map<String, Value>> = serde_json::from_slice(stdout).map_err(|error| {
            let text = String::from_utf8_lossy(stdout);
            ResultError::Json(text.chars().take(200).collect(), error)
        })?;
        Self::from_object(raw.unwrap_or_default(), config_version)
    }

    /// Takes an answer from the cache.
    ///
    /// # Errors
    /// When it is no answer.
    pub(super) fn from_object(
        mut raw: Map<String, Value>,
        config_version: &str,
    ) -> Result<Self, ResultError> {
        let version = match raw.get("cniVersion").and_then(Value::as_str) {
            Some(version) if !version.is_empty() => version.to_owned(),
            _ => config_version.to_owned(),
        };
        raw.insert("cniVersion".to_owned(), version.clone().into());
        let result = Self {
            form: Form::of(&version)?,
            version,
            raw,
        };
        result.addresses()?;
        Ok(result)
    }

    /// As it came, with its version.
    pub(super) fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }

    /// All addresses in the answer's order.
    ///
    /// # Errors
    /// For what is no address.
    pub(super) fn ips(&self) -> Result<Vec<IpAddr>, ResultError> {
        Ok(self.addresses()?.into_iter().map(|a| a.ip).collect())
    }

    fn addresses(&self) -> Result<Vec<Address>, ResultError> {
        let objects: Vec<Map<String, Value>> = if self.form == Form::Pair {
            let pair = ["ip4", "ip6"].map(|key| self.raw.get(key).and_then(Value::as_object));
            let read = |old: &Map<String, Value>| {
                let mut fields = Map::new();
                let ip = old.get("ip").cloned().unwrap_or_default();
                fields.insert("address".to_owned(), ip);
                fields.extend(
                    old.get("gateway")
                        .map(|g| ("gateway".to_owned(), g.clone())),
                );
                fields
            };
            pair.into_iter().flatten().map(read).collect()
        } else {
            objects(self.raw.get("ips"))
        };
        let read = |mut fields: Map<String, Value>| {
            fields.remove("version");
            let text = fields.get("address").and_then(Value::as_str);
            let text = text.unwrap_or_default();
            let ip = cidr(text).ok_or_else(|| ResultError::Address(text.to_owned()))?;
            Ok(Address { fields, ip })
        };
        objects.into_iter().map(read).collect()
    }

    /// Routes as 0.3.0 and later write them.
    fn routes(&self) -> Vec<Map<String, Value>> {
        if self.form != Form::Pair {
            return objects(self.raw.get("routes"));
        }
        let of = |key: &str| objects(self.raw.get(key).and_then(|ip| ip.get("routes")));
        let mut routes = of("ip4");
        routes.extend(of("ip6"));
        routes
    }

    /// The answer in the words of another version, for `prevResult`.
    ///
    /// # Errors
    /// When the version can't say it.
    pub(super) fn in_version(&self, version: &str) -> Result<Map<String, Value>, ResultError> {
        let form = Form::of(version)?;
        let mut raw = self.raw.clone();
        raw.insert("cniVersion".to_owned(), version.into());
        if form == self.form {
            return Ok(raw);
        }
        let addresses = self.addresses()?;
        let routes = self.routes();
        for key in ["ip4", "ip6", "ips", "routes"] {
            // Removed in place: the order of keys stays.
            raw.shift_remove(key);
        }
        if form == Form::Pair {
            raw.shift_remove("interfaces");
            if addresses.is_empty() {
                return Err(ResultError::NoAddress);
            }
            for (key, is_v6) in [("ip4", false), ("ip6", true)] {
                // Old versions hold one address of each family.
                let Some(first) = addresses.iter().find(|a| a.ip.is_ipv6() == is_v6) else {
                    continue;
                };
                let of_family = |route: &&Map<String, Value>| {
                    let to = route.get("dst").and_then(Value::as_str).and_then(cidr);
                    to.is_some_and(|to| to.is_ipv6() == is_v6)
                };
                let mut pair = Map::new();
                pair.insert("ip".to_owned(), first.fields["address"].clone());
                let gateway = first.fields.get("gateway");
                pair.extend(gateway.map(|g| ("gateway".to_owned(), g.clone())));
                let own: Vec<_> = routes.iter().filter(of_family).cloned().collect();
                if !own.is_empty() {
                    pair.insert("routes".to_owned(), json!(own));
                }
                raw.insert(key.to_owned(), pair.into());
            }
            return Ok(raw);
        }
        let write = |address: Address| {
            let mut fields = address.fields;
            if form == Form::Versioned {
                let family = if address.ip.is_ipv6() { "6" } else { "4" };
                fields.insert("version".to_owned(), family.into());
            }
            Value::Object(fields)
        };
        let ips: Vec<Value> = addresses.into_iter().map(write).collect();
        raw.insert("ips".to_owned(), ips.into());
        raw.insert("routes".to_owned(), json!(routes));
        Ok(raw)
    }
}

fn objects(value: Option<&Value>) -> Vec<Map<String, Value>> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.as_object().cloned()).collect()
}

/// The address of `ADDRESS/LENGTH`.
fn cidr(text: &str) -> Option<IpAddr> {
    let (ip, length) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    let most = if ip.is_ipv6() { 128 } else { 32 };
    (length.parse::<u8>().ok()? <= most).then_some(ip)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERSIONS: [&str; 7] = [
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
    ];

    fn result(value: &Value) -> CniResult {
        CniResult::parse(value.to_string().as_bytes(), "1.0.0").unwrap()
    }

    #[test]
    fn each_version_is_read() {
        let old = result(&json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16",
            "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0"}]}, "dns": {}}));
        let middle = result(&json!({"cniVersion": "0.4.0", "ips": [
            {"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1"}],
            "routes": [{"dst": "0.0.0.0/0"}], "dns": {}}));
        let new = result(&json!({"cniVersion": "1.1.0", "ips": [
            {"address": "10.1.0.5/16", "gateway": "10.1.0.1"}],
            "routes": [{"dst": "0.0.0.0/0"}], "dns": {}}));
        let ip: IpAddr = "10.1.0.5".parse().unwrap();
        for one in [&old, &middle, &new] {
            assert_eq!(one.ips().unwrap(), [ip]);
            for (other, version) in [(&old, "0.2.0"), (&middle, "0.4.0"), (&new, "1.1.0")] {
                assert_eq!(
                    Value::from(one.in_version(version).unwrap()),
                    Value::from(other.raw().clone())
                );
            }
        }
    }

    #[test]
    fn version_of_the_configuration_stands_in() {
        let silent = CniResult::parse(b"{\"ips\":[]}", "0.3.1").unwrap();
        assert_eq!(silent.raw()["cniVersion"], "0.3.1");
        // Some plugins print null or nothing of use.
        assert!(
            CniResult::parse(b"null", "1.0.0")
                .unwrap()
                .ips()
                .unwrap()
                .is_empty()
        );
        assert!(matches!(
            CniResult::parse(b"{}", "2.0.0"),
            Err(ResultError::Version(_))
        ));
        for garbage in ["", "[]", "done", "{\"ips\":[{\"address\":\"10.0.0.1\"}]}"] {
            assert!(
                CniResult::parse(garbage.as_bytes(), "1.0.0").is_err(),
                "{garbage}"
            );
        }
    }

    #[test]
    fn unknown_fields_reach_the_next_plugin() {
        let raw = json!({"cniVersion": "1.1.0", "ips": [], "interfaces": [{"name": "e", "mtu": 9}], "x": 1});
        assert_eq!(
            Value::from(result(&raw).in_version("1.0.0").unwrap())["x"],
            1
        );
        assert_eq!(
            Value::from(result(&raw).in_version("0.4.0").unwrap())["interfaces"][0]["mtu"],
            9
        );
    }

    proptest! {
        #[test]
        fn no_output_makes_the_reader_panic(bytes: Vec<u8>, text in "\\PC*") {
            drop(CniResult::parse(&bytes, "1.0.0"));
            drop(CniResult::parse(text.as_bytes(), "0.2.0"));
        }

        #[test]
        fn one_address_per_family_survives_every_version(
            v4: std::net::Ipv4Addr, v6: std::net::Ipv6Addr, with_v6: bool,
            from in 0_usize..7, through in 0_usize..7,
        ) {
            let mut ips = vec![json!({"address": format!("{v4}/24"), "gateway": "10.0.0.1"})];
            if with_v6 {
                ips.push(json!({"address": format!("{v6}/64")}));
            }
            let plain = json!({"cniVersion": "1.0.0", "ips": ips, "routes": [{"dst": "0.0.0.0/0"}]});
            let start = CniResult::from_object(
                result(&plain).in_version(VERSIONS[from]).unwrap(), "1.0.0").unwrap();
            let there = CniResult::from_object(
                start.in_version(VERSIONS[through]).unwrap(), "1.0.0").unwrap();
            prop_assert_eq!(there.ips().unwrap(), result(&plain).ips().unwrap());
            prop_assert_eq!(there.in_version(VERSIONS[from]).unwrap(), start.raw().clone());
        }
    }
}
