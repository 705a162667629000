//! Kubernetes quantities: `100m`, `1.5Gi`, `2e3`.
//!
//! Source of behaviour: `k8s.io/apimachinery/pkg/api/resource`. Exact to a billionth; finer amounts and
//! divisions round away from zero, so that who asks for something gets something.
//!
//! Differs: a decimal amount over 10^29 is refused (upstream keeps any size); an amount over the largest
//! suffix is written with more digits (upstream loses the suffix); what does not fit in 64 bits is the
//! largest number that does (upstream's wraps around); `+1`, `1E3` and `1.001m` are written `1`, `1e3` and `1001u`
//! (upstream keeps such text).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

const NANO: i128 = 1_000_000_000;

/// How an amount was written, and will be again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `12M`.
    #[default]
    DecimalSi,
    /// `12Mi`.
    BinarySi,
    /// `12e6`.
    DecimalExponent,
}

/// Why a text is no quantity; upstream's wording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not number and suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// A number out of range.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// An unknown suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An amount. Equality and order are by amount, whatever the format.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    /// Billionths.
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// So many whole units.
    pub fn from_value(value: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(value) * NANO,
            format,
        }
    }

    /// So many thousandths.
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: i128::from(milli) * (NANO / 1000),
            format: Format::DecimalSi,
        }
    }

    /// Whole units, rounded away from zero, at most what the type holds.
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }

    /// Thousandths, rounded away from zero, at most what the type holds.
    pub fn milli_value(self) -> i64 {
        self.scaled(NANO / 1000)
    }

    fn scaled(self, unit: i128) -> i64 {
        let up = i128::from(self.nanos % unit != 0) * self.nanos.signum();
        let value = self.nanos / unit + up;
        i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
    }

    /// Whether this is an exact number of whole units.
    pub fn is_whole(self) -> bool {
        self.nanos % NANO == 0
    }

    /// Nothing at all.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// How it was written.
    pub fn format(self) -> Format {
        self.format
    }

    /// The amount in whole thousandths, rounded away from zero: the finest that the API keeps.
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        let unit = NANO / 1000;
        let up = i128::from(self.nanos % unit != 0) * self.nanos.signum();
        Self {
            nanos: (self.nanos / unit + up).saturating_mul(unit),
            ..self
        }
    }

    /// The sum, in the format of the first that is not zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            format,
        }
    }

    /// The difference, in the format of the first that is not zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        Self {
            nanos: self.nanos.saturating_sub(other.nanos),
            format,
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text)
    }
}

impl From<Quantity> for ApiQuantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

/// The amount that `text` names.
///
/// # Errors
/// [`QuantityError`]: not a number, out of range or an unknown suffix.
pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let (negative, rest) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, rest) = split_digits(rest);
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    check_suffix(suffix)?;
    let (unit, format) = unit(suffix)?;
    let amount = amount(whole, fraction, unit).ok_or(QuantityError::Numeric)?;
    let (nanos, format) = match format {
        // Binary amounts are capped, and below one they read better as decimals.
        Format::BinarySi if amount > i128::from(i64::MAX) * NANO => {
            (i128::from(i64::MAX) * NANO, format)
        }
        Format::BinarySi if amount > 0 && amount < NANO => (amount, Format::DecimalSi),
        _ => (amount, format),
    };
    Ok(Quantity {
        nanos: if negative { -nanos } else { nanos },
        format,
    })
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(end)
}

/// Letters, sign, digits; what they mean is another question.
fn check_suffix(suffix: &str) -> Result<(), QuantityError> {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(())
    } else {
        Err(QuantityError::Format)
    }
}

/// What one unit of the number is.
#[derive(Clone, Copy)]
enum Unit {
    /// 10 to this power.
    Ten(i32),
    /// 2 to this power.
    Two(u32),
}

fn unit(suffix: &str) -> Result<(Unit, Format), QuantityError> {
    let decimal = |exponent| Ok((Unit::Ten(exponent), Format::DecimalSi));
    let binary = |exponent| Ok((Unit::Two(exponent), Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix
                .strip_prefix(['e', 'E'])
                .ok_or(QuantityError::Suffix)?;
            let exponent = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            Ok((Unit::Ten(exponent), Format::DecimalExponent))
        }
    }
}

/// `whole.fraction` units in billionths, rounded up. `None` if out of range.
fn amount(whole: &str, fraction: &str, unit: Unit) -> Option<i128> {
    let fraction = fraction.trim_end_matches('0');
    let digits = whole
        .bytes()
        .chain(fraction.bytes())
        .skip_while(|&digit| digit == b'0');
    // The power of ten of the last digit, in billionths.
    let mut exponent = 9 - i64::try_from(fraction.len()).ok()?;
    let mut multiplier = 1;
    match unit {
        Unit::Ten(ten) => exponent += i64::from(ten),
        Unit::Two(two) => multiplier = 1i128 << two,
    }
    let digits: Vec<u8> = digits.collect();
    // Digits far below a billionth only matter as "something is there".
    let mut value = 0i128;
    let mut inexact = false;
    let mut left = digits.len();
    for &digit in &digits {
        let Some(next) = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(digit - b'0')))
        else {
            break;
        };
        value = next;
        left -= 1;
    }
    if left > 0 {
        inexact = digits[digits.len() - left..]
            .iter()
            .any(|&digit| digit != b'0');
        exponent += i64::try_from(left).ok()?;
    }
    if value == 0 {
        return Some(0);
    }
    // Binary units are multiplied before dividing, so that nothing is rounded twice.
    value = loop {
        if let Some(product) = value.checked_mul(multiplier) {
            break product;
        }
        inexact |= value % 10 != 0;
        value /= 10;
        exponent += 1;
    };
    while exponent > 0 {
        value = value.checked_mul(10)?;
        exponent -= 1;
    }
    while exponent < 0 && value > 0 {
        inexact |= value % 10 != 0;
        value /= 10;
        exponent += 1;
    }
    value.checked_add(i128::from(inexact))
}

/// Canonical form: no precision lost, no fraction, the suffix as large as possible.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos / NANO;
        if self.format == Format::BinarySi && self.is_whole() && whole.abs() >= 1024 {
            let (mut amount, mut power) = (whole, 0);
            while amount % 1024 == 0 && power < 6 {
                amount /= 1024;
                power += 1;
            }
            return write!(
                f,
                "{amount}{}",
                ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]
            );
        }
        let (mut amount, mut power) = (self.nanos, 0);
        let largest = if self.format == Format::DecimalExponent {
            usize::MAX
        } else {
            9
        };
        while amount % 1000 == 0 && power < largest {
            amount /= 1000;
            power += 1;
        }
        match (self.format, power) {
            (_, 3) => write!(f, "{amount}"),
            (Format::DecimalExponent, _) => {
                let exponent = i64::try_from(power).unwrap_or(0) * 3 - 9;
                write!(f, "{amount}e{exponent}")
            }
            (_, power) => {
                write!(
                    f,
                    "{amount}{}",
                    ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power]
                )
            }
        }
    }
}

/// Whole units of an API quantity, rounded away from zero. Decoding refuses invalid ones; they count as zero.
pub fn value(quantity: &ApiQuantity) -> i64 {
    of(quantity).value()
}

/// Thousandths of an API quantity, rounded away from zero. An invalid one counts as zero.
pub fn milli_value(quantity: &ApiQuantity) -> i64 {
    of(quantity).milli_value()
}

/// The amount of an API quantity; an invalid one counts as zero.
pub fn of(quantity: &ApiQuantity) -> Quantity {
    parse(&quantity.0).unwrap_or_default()
}

/// An API list as amounts.
pub fn amounts(list: &BTreeMap<String, ApiQuantity>) -> Amounts {
    list.iter()
        .map(|(name, amount)| (name.clone(), of(amount)))
        .collect()
}

#[cfg(test)]
mod tests;
