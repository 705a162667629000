//! Patterns over what `/pods` shows.

use serde_json::Value;

/// Whether `seen` is as `pattern` says, or what is not. An object asks for its own fields and no
/// others (null: for absence); a list of named things for each of these names; another list for
/// equal length. The texts `~x` ask for a text with x in it and `>=n` for a number of at least n.
pub(super) fn matches(pattern: &Value, seen: &Value) -> Result<(), String> {
    let wrong = || Err(format!("{pattern} is wanted, not {seen}"));
    match pattern {
        Value::Object(fields) => {
            for (name, wanted) in fields {
                matches(wanted, &seen[name]).map_err(|why| format!("{name}: {why}"))?;
            }
            Ok(())
        }
        Value::Array(all) => {
            let there = seen.as_array().map_or(&[][..], Vec::as_slice);
            for (index, wanted) in all.iter().enumerate() {
                let key = ["name", "type"]
                    .into_iter()
                    .find(|key| wanted[key].is_string());
                let one = match key {
                    Some(key) => there.iter().find(|one| one[key] == wanted[key]),
                    None if there.len() == all.len() => there.get(index),
                    None => None,
                };
                let Some(one) = one else {
                    return wrong();
                };
                matches(wanted, one)?;
            }
            Ok(())
        }
        Value::String(text) => {
            let fits = if let Some(part) = text.strip_prefix('~') {
                seen.as_str().is_some_and(|seen| seen.contains(part))
            } else if let Some(least) = text.strip_prefix(">=") {
                seen.as_u64() >= Some(least.parse().expect("a number follows"))
            } else {
                seen == pattern
            };
            if fits { Ok(()) } else { wrong() }
        }
        _ if seen == pattern => Ok(()),
        _ => wrong(),
    }
}
