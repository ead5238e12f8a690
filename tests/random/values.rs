//! Columns and values: every type that the server has, and what is hard to carry of it.

use super::world::quoted;
use crate::support::flavor;
use crate::torture::plan::Dice;

/// A column as the server tells of it.
#[derive(Clone, Debug)]
pub struct Column {
    /// Quoted.
    pub name: String,
    /// Its type, and the same with its length and the like.
    pub data_type: String,
    pub full_type: String,
    pub charset: String,
    pub nullable: bool,
    /// Computed.
    pub generated: bool,
    srid: String,
}

impl Column {
    /// Of an answer of the server's.
    pub fn of(row: &[String]) -> Column {
        Column {
            name: quoted(&row[0]),
            data_type: row[1].clone(),
            full_type: row[2].clone(),
            charset: row[3].clone(),
            nullable: row[4] == "YES",
            generated: !row[5].is_empty(),
            srid: row[6].clone(),
        }
    }

    /// Holds text.
    pub fn is_text(&self) -> bool {
        !self.charset.is_empty() && !matches!(self.data_type.as_str(), "enum" | "set" | "json")
    }

    /// The numbers in its type.
    fn sizes(&self) -> Vec<usize> {
        let digits = self.full_type.split(|c: char| !c.is_ascii_digit());
        digits.filter_map(|n| n.parse().ok()).collect()
    }
}

const COMMON: &str = "\
    TINYINT~TINYINT UNSIGNED~BOOL~SMALLINT~SMALLINT UNSIGNED ZEROFILL~MEDIUMINT~MEDIUMINT UNSIGNED~INT~\
    INT(7) UNSIGNED ZEROFILL~INT UNSIGNED~BIGINT~BIGINT UNSIGNED~DECIMAL(65,30)~DECIMAL(10,0)~\
    DECIMAL(5,2) UNSIGNED~FLOAT~FLOAT~FLOAT UNSIGNED~FLOAT(7,3)~DOUBLE~DOUBLE~DOUBLE(20,5)~BIT(1)~\
    BIT(7)~BIT(64)~CHAR(10)~CHAR(0)~CHAR(255)~VARCHAR(20)~VARCHAR(300)~VARCHAR(1)~TINYTEXT~TEXT~\
    MEDIUMTEXT~LONGTEXT~BINARY(8)~VARBINARY(40)~TINYBLOB~BLOB~MEDIUMBLOB~LONGBLOB~\
    ENUM('a','b','é','it''s')~ENUM('','x y','Z')~SET('a','b','c d','é')~DATE~TIME~TIME(6)~TIME(2)~\
    DATETIME~DATETIME(6)~DATETIME(3)~TIMESTAMP NULL~TIMESTAMP(6) NULL~YEAR~JSON~GEOMETRY~POINT~\
    LINESTRING~POLYGON~MULTIPOINT~MULTILINESTRING~MULTIPOLYGON~GEOMETRYCOLLECTION";
const MARIA: &str = "\
    INET6~INET4~UUID~TEXT COMPRESSED~VARCHAR(100) COMPRESSED~BLOB COMPRESSED~VECTOR(3)~DECIMAL(38,38)~\
    UUID";
const MYSQL: &str = "VECTOR(3)~VECTOR~POINT SRID 4326~GEOMETRY SRID 0~JSON~JSON";
const CHARSETS: &str = "\
    latin1~utf8mb3~ucs2~utf16~utf32~cp1251~sjis~gbk~koi8r~greek~big5~ujis~binary~utf8mb4~\
    utf8mb4 COLLATE utf8mb4_bin~utf8mb4 COLLATE utf8mb4_unicode_520_ci~latin1 COLLATE latin1_bin~\
    latin1 COLLATE latin1_general_cs~utf16le~cp932~eucjpms";
const MARIA_CHARSETS: &str = "\
    utf8mb4 COLLATE uca1400_as_cs~utf8mb4 COLLATE utf8mb4_nopad_bin~\
    utf8mb4 COLLATE utf8mb4_uca1400_ai_ci~utf8mb3 COLLATE utf8mb3_general_mysql500_ci";
const MYSQL_CHARSETS: &str = "\
    utf8mb4 COLLATE utf8mb4_0900_bin~utf8mb4 COLLATE utf8mb4_ja_0900_as_cs~gb18030";

/// One of the words, which `~` separates; of `a^b` the one for MariaDB or the one for MySQL.
pub fn any<'a>(dice: &mut Dice, words: &'a str) -> &'a str {
    let all: Vec<&str> = words.split('~').collect();
    let chosen = dice.pick(&all);
    chosen.split_once('^').map_or(chosen, |(maria, mysql)| flavor::either(maria, mysql))
}

/// A type for a column.
pub fn column_type(dice: &mut Dice) -> String {
    let own = dice.percent(20).then_some(flavor::either(MARIA, MYSQL));
    let mut text = any(dice, own.unwrap_or(COMMON)).to_string();
    let is_text = ["CHAR", "VARCHAR", "TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT", "ENUM", "SET"];
    let word = text.split('(').next().unwrap_or_default();
    if is_text.contains(&word) && dice.percent(40) {
        text += &format!(" CHARACTER SET {}", charset(dice));
    }
    text
}

/// A character set, perhaps with a collation.
pub fn charset(dice: &mut Dice) -> &'static str {
    let own = dice.percent(20).then_some(flavor::either(MARIA_CHARSETS, MYSQL_CHARSETS));
    any(dice, own.unwrap_or(CHARSETS))
}

const FLOATS: &str = "\
    0.010516252390057362~16777217~123456.789~3.4028234e38~1.4e-45~'-0'~-0.1~0~1e-40~3.3333333~99999.9999";
const DOUBLES: &str = "\
    0.010516252390057362~1.7976931348623157e308~4.9e-324~-2.2250738585072014e-308~'-0'~0.1e0~\
    123456789012345680000~1e0/3~9007199254740993~-1e15~1e16";
const TEXTS: &str = "\
    ~ ~a~A~a ~it's~\\~\\'~back\\slash\\~\"~`~%_~NULL~a\nb\r\n~\t~\0~\u{1a}~; */;;~-- x~/*!50000 x */~\
    quick brown fox~lazy dogs and quick cats~été~ß~ſ~日本語~😀~😀 a~e\u{301}~İi~\u{feff}~0~1e5~DELIMITER ;;~\
    ${x}~x y z x y z";
const BYTES: &str = "''~x'00'~x'ff00fe'~x'5c27220a0d1a00'~'a'~'a '~x'f09f98'~x'c3'~x'2020'";
/// Between spaces.
const JSONS: &str = r##"
    {}~[]~null~""~"a\"b\\c\n"~{"a": [1, 1.5, "\u00e9"], "": null}~true~
    [1e100, -0.1, 18446744073709551615, -9223372036854775808]~{"b": 1, "a": {"c": [[], {}]}}~"😀\/"~
    {"a": 1}~{"a": 1.0}~{"x y": "z", "😀": ["'", "`"]}~0~[-0.0, 1E2]"##;
const DATES: &str = "1000-01-01~9999-12-31~2024-02-29~2026-11-29~0001-01-01";
const BAD_DATES: &str = "0000-00-00~2026-00-00~2026-02-00~0000-01-01";
const CLOCKS: &str = "00:00:00~23:59:59.999999~01:30:00.5~02:30:00.000001~12:00:00.499999";
const TIMES: &str = "\
    -838:59:59~838:59:59~-00:00:00.000001~00:00:00~-00:00:01.5~23:59:59.999999~-12:00:00.25";
const STAMPS: &str = "\
    1970-01-02 00:00:01~2038-01-18 03:14:07.999999~2026-03-29 02:30:00.123456~2026-10-25 02:30:00~\
    2000-01-01 00:00:00.5";

/// A literal of the type that the column takes, or one that it may not.
pub fn value(dice: &mut Dice, column: &Column) -> String {
    if column.nullable && dice.percent(12) {
        return "NULL".into();
    }
    let unsigned = column.full_type.contains("unsigned");
    let sizes = column.sizes();
    let size = sizes.first().copied();
    let quote = |text: &str| format!("'{text}'");
    match column.data_type.as_str() {
        "tinyint" => whole(dice, 8, unsigned),
        "smallint" => whole(dice, 16, unsigned),
        "mediumint" => whole(dice, 24, unsigned),
        "int" => whole(dice, 32, unsigned),
        "bigint" => whole(dice, 64, unsigned),
        "decimal" => {
            let (all, scale) = (size.unwrap_or(10), sizes.get(1).copied().unwrap_or(0));
            let large = format!("{}.{}", "9".repeat((all - scale).max(1)), "9".repeat(scale));
            let large = if all == scale { large.replacen('9', "0", 1) } else { large };
            let sign = if unsigned || dice.percent(50) { "" } else { "-" };
            let small = format!("0.{}1", "0".repeat(scale.saturating_sub(1)));
            format!("{sign}{}", [large, small, "0".into(), "0.5".into()][dice.below(4) as usize])
        }
        "float" | "double" if column.full_type.contains('(') => {
            format!("{}.{}", dice.below(9999), dice.below(1000))
        }
        "float" | "double" => {
            let all = if column.data_type == "float" { FLOATS } else { DOUBLES };
            let text = any(dice, all);
            if unsigned {
                text.trim_matches('\'').trim_start_matches('-').into()
            } else {
                text.into()
            }
        }
        "bit" => {
            let bits = size.unwrap_or(1);
            let ones = "1".repeat(bits);
            let some: String = (0..bits).map(|n| if n % 3 == 0 { '1' } else { '0' }).collect();
            format!("b'{}'", [ones, some, "0".into()][dice.below(3) as usize])
        }
        "enum" => (1 + dice.below(3)).to_string(),
        "set" => dice.below(8).to_string(),
        "date" | "datetime" => {
            let bad = dice.percent(10);
            let date = any(dice, if bad { BAD_DATES } else { DATES });
            match column.data_type.as_str() {
                "date" => quote(date),
                _ if date == "9999-12-31" => quote("9999-12-31 23:59:59"),
                _ => quote(&format!("{date} {}", any(dice, CLOCKS))),
            }
        }
        "time" => quote(any(dice, TIMES)),
        "timestamp" if dice.percent(10) => "CURRENT_TIMESTAMP(6)".into(),
        "timestamp" => quote(any(dice, STAMPS)),
        "year" => any(dice, "1901~2155~0~2026").into(),
        "json" => text(any(dice, JSONS).trim(), "utf8mb4", dice.percent(50)),
        "inet6" => quote(any(dice, "::~::1~::ffff:1.2.3.4~ffff::ffff~2001:db8::1")),
        "inet4" => quote(any(dice, "0.0.0.0~255.255.255.255~10.1.2.3")),
        "uuid" => quote(&format!("{:08x}-e89b-12d3-a456-{:012x}", dice.below(9), dice.below(999))),
        "vector" => {
            let to = flavor::either("VEC_FromText", "STRING_TO_VECTOR");
            let all = "[0.1,2,-0]~[1e-38,3.4e38,0.33333334]~[0,0,1]~[-1,16777217,1e-30]";
            format!("{to}('{}')", any(dice, all))
        }
        // MariaDB has JSON as this.
        "longtext" if dice.percent(30) => text(any(dice, JSONS).trim(), &column.charset, true),
        "binary" | "varbinary" | "tinyblob" | "blob" => any(dice, BYTES).into(),
        "mediumblob" | "longblob" if dice.percent(8) => {
            any(dice, "REPEAT(x'00', 70000)~REPEAT(x'27ff5c', 300000)").into()
        }
        "mediumblob" | "longblob" => any(dice, BYTES).into(),
        "mediumtext" | "longtext" if dice.percent(6) => "REPEAT('ab', 70000)".into(),
        _ if column.is_text() => {
            let most =
                if column.data_type.ends_with("text") { usize::MAX } else { size.unwrap_or(1) };
            let chosen: String = any(dice, TEXTS).chars().take(most).collect();
            text(&chosen, &column.charset, dice.percent(50))
        }
        kind => shape(dice, kind, &column.srid),
    }
}

fn whole(dice: &mut Dice, bits: u32, unsigned: bool) -> String {
    let (least, most) = match unsigned {
        true => (0, (1i128 << bits) - 1),
        false => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
    };
    let small = i128::from(dice.below(100));
    [least, most, 0, 1, small, small][dice.below(6) as usize].to_string()
}

/// Text as a column of this character set takes it.
fn text(chosen: &str, charset: &str, hex: bool) -> String {
    let fits = |c: char| match charset {
        "utf8mb4" | "utf16" | "utf32" | "utf16le" | "gb18030" => true,
        "utf8mb3" | "ucs2" => u32::from(c) < 0x1_0000,
        "latin1" => u32::from(c) < 0x80 || matches!(c, 'é' | 'ß'),
        "sjis" | "cp932" | "ujis" | "eucjpms" | "gbk" | "big5" => c.is_ascii() || c == '日',
        _ => c.is_ascii(),
    };
    let kept: String = chosen.chars().filter(|c| fits(*c)).collect();
    if hex || kept.contains(['\'', '\\', '\0']) {
        let digits: String = kept.bytes().map(|b| format!("{b:02x}")).collect();
        return format!("_utf8mb4 x'{digits}'");
    }
    format!("'{kept}'")
}

fn shape(dice: &mut Dice, kind: &str, srid: &str) -> String {
    const SHAPES: &[(&str, &str)] = &[
        ("point", "POINT(1.5 -2)"),
        ("point", "POINT(0.010516252390057362 16)"),
        ("linestring", "LINESTRING(0 0,1 1.0000001,2 2)"),
        ("polygon", "POLYGON((0 0,10 0,10 10,0 10,0 0),(1 1,2 1,2 2,1 2,1 1))"),
        ("multipoint", "MULTIPOINT(0 0,-1 1e-9)"),
        ("multilinestring", "MULTILINESTRING((0 0,1 1),(2 2,3 3))"),
        ("multipolygon", "MULTIPOLYGON(((0 0,1 0,1 1,0 0)))"),
        ("geometrycollection", "GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))"),
    ];
    let kind = if kind == "geomcollection" { "geometrycollection" } else { kind };
    let all: Vec<&str> = SHAPES
        .iter()
        .filter(|(k, _)| kind == "geometry" || *k == kind)
        .map(|(_, text)| *text)
        .collect();
    let text = if all.is_empty() { "POINT(0 0)" } else { dice.pick(&all) };
    let srid = if srid.is_empty() || srid == "NULL" { String::new() } else { format!(", {srid}") };
    format!("ST_GeomFromText('{text}'{srid})")
}
