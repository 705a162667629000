//! Scalars as `go.yaml.in/yaml/v2` resolves them, and numbers as Go writes them.

use std::borrow::Cow;

use serde_json::Value;

use super::base64;
use super::error::Problem;
use super::nodes::Scalar;

/// What a scalar is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Resolved<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// Over `i64::MAX`.
    Uint(u64),
    Float(f64),
    Text(Cow<'a, str>),
}

impl Resolved<'_> {
    fn tag(&self) -> &'static str {
        match self {
            Resolved::Null => "!!null",
            Resolved::Bool(_) => "!!bool",
            Resolved::Int(_) | Resolved::Uint(_) => "!!int",
            Resolved::Float(_) => "!!float",
            Resolved::Text(_) => "!!str",
        }
    }
}

/// The value of a scalar, by its tag or, plain and untagged, by its looks.
pub(super) fn resolve(scalar: &Scalar) -> Result<Resolved<'_>, Problem> {
    let text = scalar.text.as_str();
    let as_text = Resolved::Text(Cow::Borrowed(text));
    let wanted = match scalar.tag.as_deref() {
        None if scalar.plain => return Ok(implicit(text)),
        Some("!!binary") => {
            let bytes = base64::decode(text).ok_or(Problem::Binary)?;
            return Ok(Resolved::Text(Cow::Owned(
                String::from_utf8_lossy(&bytes).into_owned(),
            )));
        }
        Some("!!bool") => "!!bool",
        Some("!!int") => "!!int",
        Some("!!float") => "!!float",
        Some("!!null") => "!!null",
        None | Some(_) => return Ok(as_text),
    };
    match implicit(text) {
        Resolved::Int(value) if wanted == "!!float" =>
        {
            #[expect(clippy::cast_precision_loss, reason = "what !!float asks for")]
            Ok(Resolved::Float(value as f64))
        }
        found if found.tag() == wanted => Ok(found),
        found => Err(Problem::Tag {
            found: found.tag(),
            text: text.to_owned(),
            wanted,
        }),
    }
}

/// A plain scalar. Dates stay text (upstream: "for backward compatibility"), so do numbers of base 60.
fn implicit(text: &str) -> Resolved<'_> {
    let as_text = Resolved::Text(Cow::Borrowed(text));
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Resolved::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Resolved::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Resolved::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => float(text).map_or(as_text, Resolved::Float),
        b'+' | b'-' | b'0'..=b'9' => {
            let digits: Cow<'_, str> = if text.contains('_') {
                text.replace('_', "").into()
            } else {
                text.into()
            };
            integer(&digits)
                .or_else(|| float(&digits).map(Resolved::Float))
                .or_else(|| signed_binary(&digits))
                .unwrap_or(as_text)
        }
        _ => as_text,
    }
}

/// Go's `ParseInt(text, 0, 64)`, then `ParseUint`.
fn integer(text: &str) -> Option<Resolved<'static>> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (Some(false), &text[1..]),
        b'-' => (Some(true), &text[1..]),
        _ => (None, text),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', b'o' | b'O', ..] => (&digits[2..], 8),
        [b'0', b'b' | b'B', ..] => (&digits[2..], 2),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    let value = magnitude(digits, radix)?;
    match sign {
        Some(true) => 0i64.checked_sub_unsigned(value).map(Resolved::Int),
        _ => match i64::try_from(value) {
            Ok(value) => Some(Resolved::Int(value)),
            // Unsigned numbers take no sign, not even a plus.
            Err(_) => sign.is_none().then_some(Resolved::Uint(value)),
        },
    }
}

fn magnitude(digits: &str, radix: u32) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain {
        u64::from_str_radix(digits, radix).ok()
    } else {
        None
    }
}

/// The oddity that is left of upstream's own base 2: a sign after the prefix, `0b-1`.
fn signed_binary(text: &str) -> Option<Resolved<'static>> {
    let digits = text.strip_prefix("0b")?;
    let (negative, digits) = match digits.as_bytes().first()? {
        b'+' => (false, &digits[1..]),
        b'-' => (true, &digits[1..]),
        _ => return None,
    };
    let value = i64::try_from(magnitude(digits, 2)?).ok()?;
    Some(Resolved::Int(if negative { -value } else { value }))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, in the range of a double.
fn float(text: &str) -> Option<f64> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = digits(rest);
    let mut rest = &rest[whole..];
    if let Some(after) = rest.strip_prefix('.') {
        let fraction = digits(after);
        if whole + fraction == 0 {
            return None;
        }
        rest = &after[fraction..];
    } else if whole == 0 {
        return None;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if exponent.is_empty() || digits(exponent) != exponent.len() {
            return None;
        }
    } else if !rest.is_empty() {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A float as JSON value. Go writes one without fraction as an integer, so it is one.
///
/// # Errors
/// The name of a number that JSON does not have.
pub(super) fn number(value: f64) -> Result<Value, &'static str> {
    if value.is_nan() {
        return Err("NaN");
    }
    if value.is_infinite() {
        return Err(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    if value.fract() == 0.0 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only used where it is exact"
        )]
        let whole = value as i128;
        if let Ok(whole) = i64::try_from(whole) {
            return Ok(whole.into());
        }
        if let Ok(whole) = u64::try_from(whole) {
            return Ok(whole.into());
        }
    }
    Ok(value.into())
}

/// A float used as key: Go's `FormatFloat(value, 'g', -1, 32)`, and YAML's names of infinity.
pub(super) fn float_key(value: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "upstream formats keys as 32-bit"
    )]
    let value = value as f32;
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        format!("{value}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.abs())
    }
}
