//! What a person types into an account: checked for length, shape and characters, each refusal
//! naming the field, the problem and the remedy.

use rust_decimal::Decimal;

use crate::accounts::error::InvalidField;

/// Decimals a percentage may have.
pub const PERCENT_DECIMALS: u32 = 4;
/// The longest e-mail address (RFC 5321, section 4.5.3.1.3, less the angle brackets).
pub const EMAIL_LENGTH: usize = 254;

/// The officially assigned codes of ISO 3166-1 alpha-2.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI \
    BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY \
    CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN \
    GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH \
    KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO \
    MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL \
    PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV \
    SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN \
    VU WF WS YE YT ZA ZM ZW";

/// A text of at most `longest` characters on one line, which may be empty.
pub fn text(field: &str, value: &str, longest: usize) -> Result<(), InvalidField> {
    if value.chars().any(char::is_control) {
        return Err(InvalidField::new(
            field,
            "CONTROL_CHARACTER",
            "has a control character, such as a line break or a tab; write it on one line",
        ));
    }
    if value.trim() != value {
        return Err(InvalidField::new(
            field,
            "SURROUNDING_SPACE",
            "begins or ends with a space; leave that out",
        ));
    }
    let length = value.chars().count();
    if length > longest {
        return Err(InvalidField::new(
            field,
            "TOO_LONG",
            format!("has {length} characters; it may have at most {longest}"),
        ));
    }
    Ok(())
}

/// As [`text`], but it must be there.
pub fn required_text(field: &str, value: &str, longest: usize) -> Result<(), InvalidField> {
    if value.is_empty() {
        return Err(InvalidField::new(
            field,
            "MISSING",
            format!("is missing; give 1 to {longest} characters"),
        ));
    }
    text(field, value, longest)
}

/// Reads a percentage: 0 to 100, at most [`PERCENT_DECIMALS`] decimals; empty means 0.
pub fn percent(field: &str, value: &str) -> Result<Decimal, InvalidField> {
    if value.is_empty() {
        return Ok(Decimal::ZERO);
    }
    let plain = value.len() <= 20
        && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && value.starts_with(|first: char| first.is_ascii_digit())
        && value.ends_with(|last: char| last.is_ascii_digit());
    plain
        .then(|| Decimal::from_str_exact(value).ok())
        .flatten()
        .map(|percent| percent.normalize())
        .filter(|percent| percent.scale() <= PERCENT_DECIMALS && *percent <= Decimal::ONE_HUNDRED)
        .ok_or_else(|| {
            let shown: String = value.chars().take(40).collect();
            InvalidField::new(
                field,
                "INVALID_PERCENT",
                format!(
                    "{shown:?} is not a percentage from 0 to 100 with at most {PERCENT_DECIMALS} \
                     decimals, such as 7.5"
                ),
            )
        })
}

/// An e-mail address by its shape, or nothing. Whether it exists only a message can tell.
pub fn email(field: &str, value: &str) -> Result<(), InvalidField> {
    if value.is_empty() {
        return Ok(());
    }
    text(field, value, EMAIL_LENGTH)?;
    let shaped = value.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.contains('@')
            && domain.contains('.')
            && domain.split('.').all(|label| !label.is_empty())
            && !value.contains(|character: char| {
                character.is_whitespace() || "<>,;\"()".contains(character)
            })
    });
    if shaped {
        return Ok(());
    }
    let shown: String = value.chars().take(80).collect();
    Err(InvalidField::new(
        field,
        "INVALID_EMAIL",
        format!("{shown:?} is not one e-mail address such as invoices@example.com"),
    ))
}

/// A country's ISO 3166-1 alpha-2 code, or nothing.
pub fn country(field: &str, value: &str) -> Result<(), InvalidField> {
    if value.is_empty() || COUNTRIES.split(' ').any(|country| country == value) {
        return Ok(());
    }
    let shown: String = value.chars().take(20).collect();
    Err(InvalidField::new(
        field,
        "INVALID_COUNTRY",
        format!("{shown:?} is not an ISO 3166-1 country code of two capitals, such as DE"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_country_is_listed_once_and_in_order() {
        let countries: Vec<&str> = COUNTRIES.split(' ').collect();
        assert_eq!(countries.len(), 249);
        assert!(countries.is_sorted_by(|one, next| one < next));
        assert!(countries.iter().all(|country| country.len() == 2));
        for code in ["DE", "US", "GB", "TW", "ZW"] {
            assert_eq!(country("country_code", code), Ok(()));
        }
        for code in ["UK", "EU", "de", "DEU", "D", "XX", "  "] {
            assert!(country("country_code", code).is_err(), "{code:?} was taken");
        }
    }

    #[test]
    fn a_percentage_is_a_plain_decimal_from_zero_to_a_hundred() {
        for (text, value) in [("", "0"), ("0", "0"), ("7.5", "7.5"), ("100.0000", "100")] {
            assert_eq!(percent("percent", text).unwrap().to_string(), value);
        }
        for text in ["-1", "100.0001", "1.00001", "1e1", "7,5", "7.5%", ".5", "5.", "1.2.3", "abc"]
        {
            assert_eq!(percent("percent", text).unwrap_err().reason, "INVALID_PERCENT", "{text}");
        }
    }

    #[test]
    fn an_email_has_the_shape_of_one() {
        for good in ["", "ap@example.com", "a.b+c@sub.example.co.uk", "rechnung@bücher.example"] {
            assert_eq!(email("email", good), Ok(()), "{good}");
        }
        for bad in [
            "ap",
            "@example.com",
            "ap@",
            "ap@localhost",
            "a b@example.com",
            "a@b@c.com",
            "AP <ap@example.com>",
            "a@example.com,b@example.com",
            "a@example..com",
            "a@.com",
        ] {
            assert_eq!(email("email", bad).unwrap_err().reason, "INVALID_EMAIL", "{bad}");
        }
    }

    #[test]
    fn a_text_is_one_line_of_bounded_length() {
        assert_eq!(text("name", "Zoë & Söhne, 北京", 20), Ok(()));
        assert_eq!(text("name", "ééé", 3), Ok(()));
        for (value, reason) in [
            ("a\nb", "CONTROL_CHARACTER"),
            ("a\0", "CONTROL_CHARACTER"),
            ("a\u{85}b", "CONTROL_CHARACTER"),
            (" a", "SURROUNDING_SPACE"),
            ("a ", "SURROUNDING_SPACE"),
            ("abcd", "TOO_LONG"),
        ] {
            assert_eq!(text("name", value, 3).unwrap_err().reason, reason, "{value:?}");
        }
        assert_eq!(required_text("name", "", 3).unwrap_err().reason, "MISSING");
    }
}
