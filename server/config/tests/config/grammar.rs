//! The language, case by case. The cases are those of nats-server's `conf/lex_test.go` and `conf/parse_test.go`.

use std::path::Path;

use midge_config::{DEPTH_MAX, MemoryFiles, Problem, World, config_digest, parse, parse_file, to_json};

fn environment(name: &str) -> Option<String> {
    let text = match name {
        "NUMBER" => "22",
        "WORD" => "xyz",
        "DIGITS_FIRST" => "3Gyz",
        "QUOTED" => "'3xyz'",
        "LIST" => "[a, 1]",
        "MAP" => "{ a: $WORD }",
        "LOOP" => "$POOL",
        "POOL" => "$LOOP",
        "TWO" => "a b",
        "EMPTY" => "",
        _ => return None,
    };
    Some(text.to_owned())
}

fn read(text: &[u8]) -> Result<String, Problem> {
    let world = World { files: &MemoryFiles::new(), environment: &environment };
    parse("test.conf", Path::new(""), text, world).map(|map| to_json(&map))
}

#[track_caller]
fn reads(text: &str, json: &str) {
    match read(text.as_bytes()) {
        Ok(got) => assert_eq!(got, json, "{text}"),
        Err(problem) => panic!("{text}\n{problem}"),
    }
}

#[track_caller]
fn refused(text: &str, why: &str) {
    match read(text.as_bytes()) {
        Ok(got) => panic!("accepted: {text}\n{got}"),
        Err(problem) => assert!(problem.to_string().contains(why), "{text}\n{problem}"),
    }
}

#[test]
fn keys_and_separators() {
    for text in [
        "foo = 1",
        "foo : 1",
        "foo=1",
        "foo:1",
        "foo 1",
        "\"foo\" 1",
        "'foo':1",
        "foo\n1",
        "foo\n = 1",
        "\tfoo\t=\t1\t",
    ] {
        reads(text, r#"{"foo":1}"#);
    }
    reads("' foo' : 1", r#"{" foo":1}"#);
    reads("foo{bar = 1", r#"{"foo{bar":1}"#);
    reads("foo='1'; bar=2.2; baz=true; boo=22", r#"{"bar":2.2,"baz":true,"boo":22,"foo":"1"}"#);
    reads("a=1,b=2\r\nc=3,", r#"{"a":1,"b":2,"c":3}"#);
    reads("a=1\na=2", r#"{"a":2}"#);
    reads("Foo 1; foo 2", r#"{"Foo":1,"foo":2}"#);
    reads("foo =", r#"{"foo":""}"#);
    refused(" :foo = 22", "test.conf:1:2: expected a key, but got ':'");
    refused("foo", "the key 'foo' has no value");
    refused("   foo   ", "test.conf:1:4");
    refused("\n  # comment\n  foo\n", "test.conf:3:3");
    refused("foo =\n1", "expected a value, but the line ends");
    refused("a = 1 b = 2", "test.conf:1:7: expected a line end, ',' or ';'");
    refused("a,a,a,a", "has no value");
}

#[test]
fn comments() {
    reads("# nothing", "{}");
    reads("// nothing\r\n", "{}");
    reads("", "{}");
    reads(" \n\n \u{a0}\n", "{}");
    reads("foo = 1 # x\nbar = 2 // x\n", r#"{"bar":2,"foo":1}"#);
    reads("foo = a#b // c", r##"{"foo":"a#b"}"##);
    reads("foo { # x\n // x\n a: 1 # x\n # x\n } # x", r#"{"foo":{"a":1}}"#);
    reads("foo [ # x\n // x\n 1 # x\n # x\n, 2 ] # x".replace("\n, ", "\n").as_str(), r#"{"foo":[1,2]}"#);
    refused("/ foo = 1", "expected a key, but got '/'");
    refused("foo = 1 / x", "but got '/'");
    assert_eq!(read(b"# Gr\xfc\xdfe\nfoo: 1").unwrap(), r#"{"foo":1}"#);
}

#[test]
fn booleans() {
    for word in ["true", "TRUE", "yes", "on", "On"] {
        reads(&format!("foo={word}"), r#"{"foo":true}"#);
    }
    for word in ["false", "no", "OFF"] {
        reads(&format!("foo={word}"), r#"{"foo":false}"#);
    }
    reads("foo = 'true'", r#"{"foo":"true"}"#);
    reads("foo = \\\\true", r#"{"foo":"\\true"}"#);
    reads("foo = tru", r#"{"foo":"tru"}"#);
}

#[test]
fn numbers() {
    for (text, want) in [
        ("123", "123"),
        ("-123", "-123"),
        ("0", "0"),
        ("1k", "1000"),
        ("1K", "1000"),
        ("4kb", "4096"),
        ("3ki", "3072"),
        ("4kib", "4096"),
        ("1m", "1000000"),
        ("2MB", "2097152"),
        ("2Mi", "2097152"),
        ("64MiB", "67108864"),
        ("2g", "2000000000"),
        ("22GiB", "23622320128"),
        ("1t", "1000000000000"),
        ("22TB", "24189255811072"),
        ("1p", "1000000000000000"),
        ("22PiB", "24769797950537728"),
        ("1e", "1000000000000000000"),
        ("1eb", "1152921504606846976"),
        ("-1k", "-1000"),
        ("22.2", "22.2"),
        ("-22.20", "-22.2"),
        ("0.0000001", "1e-7"),
        ("1.0", "1"),
        ("1000000000000000000000.0", "1e+21"),
    ] {
        reads(&format!("foo = {text}"), &format!(r#"{{"foo":{want}}}"#));
    }
    for text in ["3xyz", "10m!", "5s", "3Gyz", "127.0.0.1", "127.0.0.1:4222", "1.2.3", "10kbs"] {
        reads(&format!("foo = {text}, bar = 1"), &format!(r#"{{"bar":1,"foo":"{text}"}}"#));
    }
    refused("foo = 1k8", "expected a line end");
    reads("foo = [1,2k]", r#"{"foo":[1,2000]}"#);
    refused("foo = .2", "a float starts with a digit");
    refused("foo = 2.", "expected a digit behind the dot");
    refused("foo = -", "expected a digit");
    refused("foo = -5s", "expected a line end");
    refused("foo = 1.5s", "expected a line end");
    refused("foo = 1kbb", "unknown size suffix");
    refused("foo = 99999999999999999999", "out of range");
    refused("foo = 10e", "out of range");
    refused(&format!("foo = {}.0", "9".repeat(400)), "out of range");
}

#[test]
fn dates() {
    reads("foo = 2016-05-04T18:53:41Z", r#"{"foo":"2016-05-04T18:53:41Z"}"#);
    reads("foo = 2016-02-29T00:00:00Z", r#"{"foo":"2016-02-29T00:00:00Z"}"#);
    for text in
        ["2016-05-04", "20160-05-04T18:53:41Z", "2016-05-04T18:53:41", "2016-05-04 18:53:41Z", "12-ab"]
    {
        refused(&format!("foo = {text}"), "a date has the form");
    }
    for text in ["2015-02-29", "1900-02-29", "2016-13-01", "2016-00-01", "2016-04-31", "2016-04-00"] {
        refused(&format!("foo = {text}T00:00:00Z"), "there is no date");
    }
    refused("foo = 2016-05-04T24:00:00Z", "there is no date");
}

#[test]
fn strings() {
    for text in [r#""bar""#, "'bar'", "bar", "bar'", r"\x62ar", r#""b\x61r""#, r"b\x61\x72"] {
        reads(&format!("foo = {text}"), r#"{"foo":"bar"}"#);
    }
    reads(r#"foo = "a\t\n\r\"\\b""#, r#"{"foo":"a\t\n\r\"\\b"}"#);
    reads(r"foo = 'a\t'", r#"{"foo":"a\\t"}"#);
    reads(r#"foo = "\\end""#, r#"{"foo":"\\end"}"#);
    reads(r#"foo = "start\\""#, r#"{"foo":"start\\"}"#);
    reads(r"foo = \x3cmiddle\x3E", r#"{"foo":"\u003cmiddle\u003e"}"#);
    reads(r"foo = \\$var", r#"{"foo":"\\$var"}"#);
    reads(r#"foo = """#, r#"{"foo":""}"#);
    reads("foo = ''", r#"{"foo":""}"#);
    reads("foo = 'two\nlines'", r#"{"foo":"two\nlines"}"#);
    reads("foo = nats://a:b@c.d:4222/x?y", r#"{"foo":"nats://a:b@c.d:4222/x?y"}"#);
    reads("foo = /etc/x", r#"{"foo":"/etc/x"}"#);
    reads("foo = a\"b", r#"{"foo":"a\"b"}"#);
    reads("foo = \"\u{e9}\u{2028}\u{8}\u{1}&\"", "{\"foo\":\"\u{e9}\\u2028\\b\\u0001\\u0026\"}");
    refused(r"foo = \y", "unknown escape");
    refused("foo = xyz\\x\n", "two hexadecimal digits");
    refused("foo = xyz\\xF\n", "two hexadecimal digits");
    refused(r#"foo = "[\x]""#, "two hexadecimal digits");
    refused(r#"foo = "[\xe]""#, "two hexadecimal digits");
    refused("foo = \"bar", "test.conf:1:8: the quoted text has no end");
    refused("\n\nfoo = 'bar\n\n", "test.conf:3:8: the quoted text has no end");
    refused("'foo = 1", "no end");
    refused("foo { \"bar", "no end");
    refused(r"foo = \xe9", "not UTF-8");
    assert!(read(b"foo = \xff").is_err());
    assert!(read(b"foo = \xc3\xa9").is_ok());
    refused("foo = a\0b", "test.conf:1:8: the text contains a zero byte");
}

#[test]
fn blocks_of_text() {
    reads("foo = (\n  a { b }\n  (c)\n)\nbar = 1", r#"{"bar":1,"foo":"\n  a { b }\n  (c)\n"}"#);
    reads("foo (\na)b\n)", r#"{"foo":"\na)b\n"}"#);
    refused("foo = (\n a )", "the block has no ')' alone on a line");
    refused("foo = (a)", "the block has no");
}

#[test]
fn lists() {
    reads("foo = [1, 2, 3, 'bar']", r#"{"foo":[1,2,3,"bar"]}"#);
    reads("foo = [ ]", r#"{"foo":[]}"#);
    reads("foo = [a,]", r#"{"foo":["a"]}"#);
    reads("foo [\n 1,\n 2, // x\n 'bar' # x\n]", r#"{"foo":[1,2,"bar"]}"#);
    reads("foo [\n 1\n 2\n a b\n]".replace("a b", "a").as_str(), r#"{"foo":[1,2,"a"]}"#);
    reads("foo [{a: 1}, {b: w}\n{}]", r#"{"foo":[{"a":1},{"b":"w"},{}]}"#);
    reads("foo = [[1],[[2]]]", r#"{"foo":[[1],[[2]]]}"#);
    refused("foo = [1,,2]", "expected a value or ']', but got ','");
    refused("foo = [1 2]", "expected ',', a line end or ']'");
    refused("foo = [1; 2]", "expected ','");
    refused("foo = [/x]", "expected a value or ']'");
    refused("foo = [1", "but the text ends");
    refused("foo = [", "but the text ends");
}

#[test]
fn maps() {
    reads("foo = {ip='127.0.0.1', port = 4242}", r#"{"foo":{"ip":"127.0.0.1","port":4242}}"#);
    reads("foo {\n ip = '127.0.0.1' # x\n port= 4242;\n}", r#"{"foo":{"ip":"127.0.0.1","port":4242}}"#);
    reads(
        "foo {\n host {\n ip '1' }\n servers = [ \"a\" ]\n}",
        r#"{"foo":{"host":{"ip":"1"},"servers":["a"]}}"#,
    );
    reads("foo = {'bar-1.2.3' = { port:4242 }}", r#"{"foo":{"bar-1.2.3":{"port":4242}}}"#);
    reads("foo {}", r#"{"foo":{}}"#);
    reads("foo { a:\n 1 }", r#"{"foo":{"a":1}}"#);
    reads("foo { a 1; b 2, c 3 }", r#"{"foo":{"a":1,"b":2,"c":3}}"#);
    refused("foo { a: }", "the key 'a' has no value");
    refused("foo { a: , }", "the key 'a' has no value");
    refused("foo { : 1 }", "expected a key");
    refused("foo { ]", "expected a key, but got ']'");
    refused("foo { a: 1", "expected '}', but the text ends");
    refused("foo {\n a: 1\n", "expected '}'");
    refused("foo { a: 1 b: 2 }", "expected a line end");
}

#[test]
fn the_whole_file_in_braces() {
    for text in [
        "{ foo: 1 }",
        "{\n foo: 1\n}",
        "\n{\n{ foo: 1 // x\n }\n # x\n}\n# x\n",
        "{\"foo\": 1,}",
        "foo: 1\n}",
        "foo: 1 }",
        "{ \"foo\":\n 1 }",
    ] {
        reads(text, r#"{"foo":1}"#);
    }
    reads("{}", "{}");
    reads("{ \"a\": False\n \"b\": { \"c\": [\"d\",\n\"e\"] } }\n", r#"{"a":false,"b":{"c":["d","e"]}}"#);
    refused("{ foo: 1", "expected '}'");
    refused("foo: 1\n}}", "has no value");
}

#[test]
fn variables() {
    reads("index = 22\nfoo = $index", r#"{"foo":22,"index":22}"#);
    reads(
        "index = 22\nnest { index = 11\n foo = $index }\nbar = $index",
        r#"{"bar":22,"index":22,"nest":{"foo":11,"index":11}}"#,
    );
    reads("a { V = 1, l = [{x = $V}, $V] }", r#"{"a":{"V":1,"l":[{"x":1},1]}}"#);
    reads("a = $NUMBER", r#"{"a":22}"#);
    reads("a = $WORD", r#"{"a":"xyz"}"#);
    reads("a = $DIGITS_FIRST", r#"{"a":"3Gyz"}"#);
    reads("a = $QUOTED", r#"{"a":"3xyz"}"#);
    reads("a = [$LIST, $EMPTY]", r#"{"a":[["a",1],""]}"#);
    reads("a = $MAP", r#"{"a":{"a":"xyz"}}"#);
    reads("WORD = mine\na = $WORD", r#"{"WORD":"mine","a":"mine"}"#);
    reads("a = '$WORD'", r#"{"a":"$WORD"}"#);
    refused("a = $nothing", "test.conf:1:1: the variable 'nothing' is not defined");
    refused("a = $b\nb = 1", "the variable 'b' is not defined");
    refused("a = $LOOP", "refers to itself");
    refused("a = $TWO", "nothing behind the value");
    for hash in ["$2a$11$ooo", "$2b$12$a/b.c", "$2x$04$o", "$2y$04$o"] {
        reads(&format!("a: {hash}"), &format!(r#"{{"a":"{hash}"}}"#));
    }
}

#[test]
fn included_files() {
    let mut files = MemoryFiles::new();
    for (path, text) in [
        ("/etc/nats.conf", "include 'sub/users.conf'\nlisten: 1\na { include sub/users.conf; b: $PASS }"),
        ("/etc/sub/users.conf", "PASS: x\ninclude \"./more.conf\""),
        ("/etc/sub/more.conf", "{ more: yes }"),
        ("/etc/self.conf", "include self.conf"),
        ("/etc/twice.conf", "a {include twice.conf}\nb {include twice.conf}"),
        ("/etc/many.conf", &"include empty.conf\n".repeat(2000)),
        ("/etc/empty.conf", ""),
        ("/etc/lost.conf", "\n  include lost/file.conf"),
        ("/etc/broken.conf", "a: 1\ninclude sub/broken.conf"),
        ("/etc/sub/broken.conf", "\n a = ["),
        ("/etc/scope.conf", "V: 1\ninclude uses.conf"),
        ("/etc/uses.conf", "a: $V"),
    ] {
        files.insert(path.into(), text.as_bytes().to_vec());
    }
    let read = |path: &str| {
        let world = World { files: &files, environment: &environment };
        parse_file(Path::new(path), world).map(|map| to_json(&map)).map_err(|problem| problem.to_string())
    };
    assert_eq!(
        read("/etc/nats.conf").unwrap(),
        r#"{"PASS":"x","a":{"PASS":"x","b":"x","more":true},"listen":1,"more":true}"#
    );
    for (path, why) in [
        ("/etc/self.conf", "nested deeper"),
        ("/etc/twice.conf", "nested deeper"),
        ("/etc/many.conf", "more than 1024 files"),
        ("/etc/lost.conf", "/etc/lost.conf:2:3: can not include '/etc/lost/file.conf'"),
        ("/etc/broken.conf", "/etc/sub/broken.conf:2:7: "),
        ("/etc/scope.conf", "the variable 'V' is not defined"),
        ("/nowhere", "/nowhere: "),
    ] {
        let problem = read(path).unwrap_err();
        assert!(problem.contains(why), "{path}: {problem}");
    }
    for text in ["include [a]", "include {a}", "include 5", "include -x", "include\n", "include ''"] {
        refused(text, "");
    }
    reads("include=1", r#"{"include":1}"#);
    refused("include = 1", "can not include '='");
    reads("'include' 1", r#"{"include":1}"#);
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = |depth: usize| format!("a = {}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(deep(DEPTH_MAX).as_bytes()).is_ok());
    refused(&deep(DEPTH_MAX + 1), "nested deeper");
    for open in ["[", "{", "{a ", "a{b "] {
        assert!(read(format!("a {}", open.repeat(100_000)).as_bytes()).is_err(), "{open}");
    }
    let doubled = (1..64).map(|i| format!("v{i} = [$v{}, $v{}]\n", i - 1, i - 1)).collect::<String>();
    refused(&format!("v0 = x\n{doubled}"), "too large");
    let nested = (1..100).map(|i| format!("v{i} = [$v{}]\n", i - 1)).collect::<String>();
    refused(&format!("v0 = x\n{nested}"), "too large");
}

/// A file with many users once took minutes: every key looked at the whole rest of the text. Who brings that back
/// waits here.
#[test]
fn large_files_take_time_in_proportion() {
    let text =
        format!("users: [\n{}]", "{user: u, password: p, permissions {publish: [a, b]}}\n".repeat(20_000));
    assert!(read(text.as_bytes()).is_ok());
}

#[test]
fn digests() {
    // As nats-server's own tests state them.
    for (text, digest) in [
        ("foo = bar", "226e49e13d16e5e8aa0d62e58cd63361bf097d3e2b2444aa3044334628a2e8de"),
        ("# x\n{ 'foo': 'bar' } // y", "226e49e13d16e5e8aa0d62e58cd63361bf097d3e2b2444aa3044334628a2e8de"),
        (
            "bar = { users = [ {user = \"foo\"} ]}\naccounts { users = { users = [ {user = \"foo\"} ]} }",
            "f5d943b4ed22b80c6199203f8a7eaa8eb68ef7b2d46ef6b1b26f05e21f8beb13",
        ),
        (
            "BAR_USERS = { users = [ {user = \"foo\"} ]}\nbar = $BAR_USERS\naccounts { users = $BAR_USERS }",
            "b0e2ba0b8ec2cb75681b5c5d61789cda0c9942c2f9fe16cdb7f6703364485360",
        ),
    ] {
        let world = World { files: &MemoryFiles::new(), environment: &environment };
        let map = parse("test.conf", Path::new(""), text.as_bytes(), world).unwrap();
        assert_eq!(config_digest(&map), format!("sha256:{digest}"), "{text}");
    }
}
