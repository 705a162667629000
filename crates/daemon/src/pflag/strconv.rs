//! Numbers, booleans and quoted text in Go's syntax, with the errors of Go's `strconv`.

/// A text that is no number or boolean, worded as Go words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("strconv.{function}: parsing {}: {problem}", quote(text))]
pub struct NumberError {
    function: &'static str,
    text: String,
    problem: &'static str,
}

impl NumberError {
    fn syntax(function: &'static str, text: &str) -> Self {
        Self {
            function,
            text: text.to_owned(),
            problem: "invalid syntax",
        }
    }

    fn range(function: &'static str, text: &str) -> Self {
        Self {
            function,
            text: text.to_owned(),
            problem: "value out of range",
        }
    }
}

/// Go's `strconv.ParseBool`.
///
/// # Errors
/// When the text is none of `1 t T true TRUE True 0 f F false FALSE False`.
pub fn parse_bool(text: &str) -> Result<bool, NumberError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(NumberError::syntax("ParseBool", text)),
    }
}

/// Go's `strconv.ParseInt`. Base 0 reads the base from the prefix (`0x`, `0o`, `0b`, `0`) and
/// allows `_` between digits.
///
/// # Errors
/// On a wrong digit, or when the value does not fit into `bits`.
pub fn parse_int(text: &str, base: u32, bits: u32) -> Result<i64, NumberError> {
    const FUNCTION: &str = "ParseInt";
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = match magnitude(digits, base) {
        Ok(magnitude) => magnitude,
        Err(Bad::Syntax) => return Err(NumberError::syntax(FUNCTION, text)),
        Err(Bad::Range) => return Err(NumberError::range(FUNCTION, text)),
    };
    let value = if negative {
        -i128::from(magnitude)
    } else {
        i128::from(magnitude)
    };
    let limit = 1_i128 << (bits - 1);
    match i64::try_from(value) {
        Ok(number) if (-limit..limit).contains(&value) => Ok(number),
        _ => Err(NumberError::range(FUNCTION, text)),
    }
}

/// Go's `strconv.ParseUint`, see [`parse_int`].
///
/// # Errors
/// As [`parse_int`]; any sign is a syntax error.
pub fn parse_uint(text: &str, base: u32, bits: u32) -> Result<u64, NumberError> {
    const FUNCTION: &str = "ParseUint";
    match magnitude(text, base) {
        Ok(value) if bits >= 64 || value < (1 << bits) => Ok(value),
        Ok(_) | Err(Bad::Range) => Err(NumberError::range(FUNCTION, text)),
        Err(Bad::Syntax) => Err(NumberError::syntax(FUNCTION, text)),
    }
}

/// Go's `strconv.ParseFloat` for 64 bits. Differs: no hexadecimal floats.
pub(super) fn parse_float(text: &str) -> Result<f64, NumberError> {
    text.parse()
        .map_err(|_| NumberError::syntax("ParseFloat", text))
}

enum Bad {
    Syntax,
    Range,
}

fn magnitude(text: &str, base: u32) -> Result<u64, Bad> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = if base != 0 {
        (base, lower.as_str())
    } else if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    let prefixed = digits.len() < lower.len();
    let mut value: u64 = 0;
    let mut overflow = false;
    let mut seen = false;
    // `_` may stand between digits and after a base prefix, once at a time.
    let mut after_digit = prefixed;
    for c in digits.chars() {
        if c == '_' && base == 0 && after_digit {
            after_digit = false;
            continue;
        }
        let digit = c.to_digit(radix).ok_or(Bad::Syntax)?;
        match value
            .checked_mul(u64::from(radix))
            .and_then(|v| v.checked_add(u64::from(digit)))
        {
            Some(next) => value = next,
            None => overflow = true,
        }
        seen = true;
        after_digit = true;
    }
    if !seen || !after_digit {
        return Err(Bad::Syntax);
    }
    if overflow { Err(Bad::Range) } else { Ok(value) }
}

/// Text in double quotes as Go's `%q` prints it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    crate::quote::quote(text, &mut out);
    out
}

/// A character in single quotes as Go's `%q` prints it.
pub(super) fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    crate::quote::push_escaped(c, '\'', &mut out);
    out.push('\'');
    out
}
