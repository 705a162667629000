use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Differs: a size that we refuse, a lost suffix, a sign lost in rounding.
const DIFFERS: &[&str] = &["1e100", "1000000000000000000000", "-0.1n"];

#[test]
fn answers_are_those_of_upstream() {
    let mut wrong = Vec::new();
    for row in include_str!("table.jsonl").lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let input = row["in"].as_str().unwrap();
        let ours = parse(input);
        let same = match (&ours, row.get("err")) {
            (Ok(ours), None) => {
                let kept = row["out"] == input;
                // Differs: upstream's numbers wrap around.
                let fits = |ours: i64| ours.unsigned_abs() < i64::MAX.unsigned_abs();
                (row["out"] == ours.to_string() || kept)
                    && (row["value"] == ours.value() || !fits(ours.value()))
                    && (row["milli"] == ours.milli_value() || !fits(ours.milli_value()))
                    && row["sign"] == i32::from(!ours.is_zero()) - 2 * i32::from(ours.is_negative())
            }
            (Err(ours), Some(theirs)) => *theirs == ours.to_string(),
            _ => false,
        };
        if same == DIFFERS.contains(&input) {
            wrong.push(format!(
                "{row}\n   ours {ours:?} {:?}",
                ours.map(|q| q.to_string())
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn amounts_compare_across_formats() {
    assert_eq!(parse("1Ki"), parse("1024"));
    assert!(parse("1G").unwrap() < parse("1Gi").unwrap());
    assert!(parse("-1").unwrap() < parse("0").unwrap());
    let sum = Quantity::default()
        .plus(parse("512Mi").unwrap())
        .plus(parse("0.5Gi").unwrap());
    assert_eq!(sum.to_string(), "1Gi");
    assert_eq!(sum.minus(parse("1Gi").unwrap()).to_string(), "0");
    assert_eq!(Quantity::from_milli(1500).to_string(), "1500m");
    assert_eq!(
        Quantity::from_value(2048, Format::BinarySi).to_string(),
        "2Ki"
    );
}

proptest! {
    #[test]
    fn any_text_gives_an_answer(text in "[+-]?[0-9.]{0,30}[eEinumkKMGTP]{0,2}[+-]?[0-9]{0,3}") {
        if let Ok(quantity) = parse(&text) {
            let again = parse(&quantity.to_string()).unwrap();
            prop_assert_eq!(again, quantity);
            prop_assert_eq!(again.to_string(), quantity.to_string());
        }
    }

    #[test]
    fn thousandths_survive(milli in any::<i64>()) {
        let quantity = Quantity::from_milli(milli);
        prop_assert_eq!(quantity.milli_value(), milli);
        prop_assert_eq!(parse(&quantity.to_string()).unwrap().milli_value(), milli);
    }
}
