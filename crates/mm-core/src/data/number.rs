//! Numbers from text, exactly.

/// What a piece of text is as a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Parsed {
    Finite(f64),
    /// An infinity by name, or digits beyond the range of `f64`.
    Infinite,
    NotANumber,
}

/// Powers of ten that `f64` holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Reads decimal or scientific notation, blanks around it allowed, to the nearest `f64`.
///
/// Up to 15 or so digits, which is nearly every cell of a table, are read by one exact
/// multiplication or division (Clinger 1990, "How to read floating point numbers accurately",
/// *PLDI*); the rest go the way of the standard library, with the same result bit for bit.
pub(super) fn parse(text: &str) -> Parsed {
    if let Some(x) = short(text.as_bytes()) {
        return Parsed::Finite(x);
    }
    let text = text.trim_ascii();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) {
        return match text.parse::<f64>() {
            Ok(x) if x.is_finite() => Parsed::Finite(x),
            Ok(_) => Parsed::Infinite,
            Err(_) => Parsed::NotANumber,
        };
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_infinity = |name: &&&str| unsigned.eq_ignore_ascii_case(name);
    match ["inf", "infinity"].iter().find(is_infinity) {
        Some(_) => Parsed::Infinite,
        None => Parsed::NotANumber,
    }
}

/// `-?d*.?d*` with a mantissa that `f64` holds exactly; `None` leaves the text to the slow path.
fn short(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // 19 digits cannot overflow; a byte is for the point.
    if digits.is_empty() || 20 < digits.len() {
        return None;
    }
    let (mut mantissa, mut point, mut count) = (0_u64, None, 0);
    for &b in digits {
        let digit = b.wrapping_sub(b'0');
        if digit < 10 {
            if count == 19 {
                return None;
            }
            mantissa = mantissa * 10 + u64::from(digit);
            count += 1;
        } else if b == b'.' && point.is_none() {
            point = Some(count);
        } else {
            return None;
        }
    }
    if count == 0 || 1 << 53 < mantissa {
        return None;
    }
    let decimals = point.map_or(0, |at| count - at);
    let x = mantissa as f64 / EXACT[decimals];
    Some(if negative { -x } else { x })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn notations_are_told_apart() {
        for (text, x) in [
            ("0", 0.0),
            ("-0", -0.0),
            ("007", 7.0),
            ("+5", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            (" 12\t", 12.0),
            ("1e3", 1000.0),
            ("-2.5E-1", -0.25),
            ("12.658579999999999", 12.658_579_999_999_999),
            ("9007199254740993", 9_007_199_254_740_992.0),
            ("18446744073709551616", 18_446_744_073_709_551_616.0),
        ] {
            let Parsed::Finite(got) = parse(text) else { panic!("`{text}` is a number") };
            assert_eq!(got.to_bits(), f64::to_bits(x), "{text}");
        }
        for text in ["inf", "-Infinity", "+INF", "1e999", "-1e999"] {
            assert_eq!(parse(text), Parsed::Infinite, "{text}");
        }
        for text in
            ["", " ", ".", "-", "+-1", "1 2", "1,5", "0x10", "NaN", "nan", "1_000", "1e", "e1"]
        {
            assert_eq!(parse(text), Parsed::NotANumber, "{text}");
        }
    }

    proptest! {
        /// Whatever the characters, short text is the number that the standard library sees.
        #[test]
        fn short_texts_are_read_as_the_standard_library_reads_them(text in "[-+.0-9eE/:x ]{0,9}") {
            let got = parse(&text);
            match text.trim_ascii().parse::<f64>() {
                Err(_) => prop_assert_eq!(got, Parsed::NotANumber),
                Ok(x) if x.is_infinite() => prop_assert_eq!(got, Parsed::Infinite),
                Ok(x) => {
                    let Parsed::Finite(got) = got else { panic!("`{text}` is {x}") };
                    prop_assert_eq!(got.to_bits(), x.to_bits());
                }
            }
        }

        /// The fast path agrees with the standard library to the last bit.
        #[test]
        fn numbers_are_read_to_the_nearest(text in "-?[0-9]{0,20}(\\.[0-9]{0,20})?") {
            match text.parse::<f64>() {
                Err(_) => prop_assert_eq!(parse(&text), Parsed::NotANumber),
                Ok(x) => {
                    let Parsed::Finite(got) = parse(&text) else { panic!("`{text}`") };
                    prop_assert_eq!(got.to_bits(), x.to_bits());
                }
            }
        }

        /// What is written in the shortest form comes back.
        #[test]
        fn shortest_forms_round_trip(x in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL) {
            prop_assert_eq!(parse(&format!("{x:?}")), Parsed::Finite(x));
            prop_assert_eq!(parse(&format!("{x}")), Parsed::Finite(x));
        }
    }
}
