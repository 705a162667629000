//! Syntax of names (`k8s.io/apimachinery/pkg/util/validation`). Each check returns what is wrong, in upstream's
//! words, which quote regular expressions; none is needed to check them.

const DNS_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// `app-1`: at most 63 of `a-z`, `0-9` and `-`.
pub(super) fn dns_label(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, 63);
    if !is_label(value) {
        wrong.push(if is_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
             and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
             regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .to_owned()
        });
    }
    wrong
}

/// `app.example.com`: labels with dots between, at most 253.
pub(super) fn dns_subdomain(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, 253);
    if !is_subdomain(value) {
        wrong.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is '{DNS_LABEL}(\\.{DNS_LABEL})*')"
        ));
    }
    wrong
}

/// `example.com/Name`: key of a label or annotation, name of a resource or condition.
pub(super) fn qualified(value: &str) -> Vec<String> {
    const MUST: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
                        and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                        '123-abc', regex used for validation is \
                        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let mut wrong = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(
                    dns_subdomain(prefix)
                        .iter()
                        .map(|text| format!("prefix part {text}")),
                );
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {MUST} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    }
    wrong.extend(
        too_long(name, 63)
            .iter()
            .map(|text| format!("name part {text}")),
    );
    if !is_qualified_part(name) {
        wrong.push(format!("name part {MUST}"));
    }
    wrong
}

/// Value of a label.
pub(super) fn label_value(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, 63);
    if !value.is_empty() && !is_qualified_part(value) {
        wrong.push(format!(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
             or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
             'my_value',  or '12345', regex used for validation is '({QUALIFIED})?')"
        ));
    }
    wrong
}

/// `http`: at most 15 of `a-z`, `0-9` and single `-`, one letter at least.
pub(super) fn port_name(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, 15);
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if value.is_empty() || !value.bytes().all(allowed) {
        wrong.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// 1 to 65535.
pub(super) fn port_number(value: i64) -> Vec<String> {
    out_of_range(value, 1, 65_535)
}

/// User or group id.
pub(super) fn id(value: i64) -> Vec<String> {
    out_of_range(value, 0, i64::from(i32::MAX))
}

pub(super) fn out_of_range(value: i64, least: i64, most: i64) -> Vec<String> {
    if (least..=most).contains(&value) {
        Vec::new()
    } else {
        vec![range(least, most)]
    }
}

pub(super) fn range(least: i64, most: i64) -> String {
    format!("must be between {least} and {most}, inclusive")
}

/// Name of an environment variable, the strict form.
pub(super) fn env_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !is_key(value) || value.starts_with(|c: char| c.is_ascii_digit()) {
        wrong.push(
            "a valid environment variable name must consist of alphabetic characters, digits, \
             '_', '-', or '.', and must not start with a digit (e.g. 'my.env-name',  or \
             'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is \
             '[-._a-zA-Z][-._a-zA-Z0-9]*')"
                .to_owned(),
        );
    }
    wrong.extend(dots(value));
    wrong
}

/// Key in an environment file.
pub(super) fn relaxed_env_name(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if value
        .bytes()
        .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
    {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other \
         than '='"
            .to_owned(),
    ]
}

/// Key in a ConfigMap or Secret.
pub(super) fn config_key(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, 253);
    if !is_key(value) {
        wrong.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
             'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
             '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    wrong.extend(dots(value));
    wrong
}

/// Name of an HTTP header.
pub(super) fn header_name(value: &str) -> Vec<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !value.is_empty() && value.bytes().all(allowed) {
        return Vec::new();
    }
    vec![
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. \
         'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"
            .to_owned(),
    ]
}

fn is_key(value: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !value.is_empty() && value.bytes().all(allowed)
}

fn dots(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

fn is_label(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    value.bytes().all(|byte| inner(byte) || byte == b'-')
        && value.bytes().next().is_some_and(inner)
        && value.bytes().last().is_some_and(inner)
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

fn is_qualified_part(value: &str) -> bool {
    is_key(value)
        && value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn too_long(value: &str, limit: usize) -> Vec<String> {
    let over = value.len() > limit;
    over.then(|| format!("must be no more than {limit} characters"))
        .into_iter()
        .collect()
}
