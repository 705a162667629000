//! One CSV record, as Go's `encoding/csv` reads and writes it: pflag's string lists are such.

/// First record of a text. An empty text is an empty list, as in pflag.
///
/// # Errors
/// Go's message for a stray or missing quote.
pub(super) fn read_record(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let text = text.trim_start_matches(['\n', '\r']);
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let after = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(text, quoted, &mut fields)?,
            None => bare_field(text, rest, &mut fields)?,
        };
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// Reads an unquoted field and returns what follows it.
fn bare_field<'a>(text: &str, rest: &'a str, fields: &mut Vec<String>) -> Result<&'a str, String> {
    let end = rest.find([',', '\n']).unwrap_or(rest.len());
    let field = &rest[..end];
    if let Some(quote) = field.find('"') {
        let column = text.len() - rest.len() + quote + 1;
        return Err(format!(
            "parse error on line 1, column {column}: bare \" in non-quoted-field"
        ));
    }
    fields.push(field.trim_end_matches('\r').to_owned());
    Ok(&rest[end..])
}

/// Reads the field after an opening quote and returns what follows the closing one.
fn quoted_field<'a>(
    text: &str,
    mut rest: &'a str,
    fields: &mut Vec<String>,
) -> Result<&'a str, String> {
    let mut field = String::new();
    loop {
        let Some(quote) = rest.find('"') else {
            let column = text.len() + 1;
            return Err(format!(
                "parse error on line 1, column {column}: extraneous or missing \" in quoted-field"
            ));
        };
        field.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        if let Some(more) = rest.strip_prefix('"') {
            field.push('"');
            rest = more;
        } else if rest.is_empty() || rest.starts_with([',', '\n']) {
            fields.push(field);
            return Ok(rest);
        } else {
            let column = text.len() - rest.len();
            return Err(format!(
                "parse error on line 1, column {column}: extraneous or missing \" in quoted-field"
            ));
        }
    }
}

/// A record that [`read_record`] reads back.
pub(super) fn write_record<S: AsRef<str>>(fields: &[S]) -> String {
    let quoted: Vec<String> = fields
        .iter()
        .map(|field| {
            let field = field.as_ref();
            let quote = field.contains(['"', ',', '\n', '\r'])
                || field.starts_with(char::is_whitespace)
                || field == r"\."
                || (field.is_empty() && fields.len() == 1);
            if quote {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field.to_owned()
            }
        })
        .collect();
    quoted.join(",")
}
