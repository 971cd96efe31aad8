//! Text to tree: maps, lists, variables and included files.
//!
//! Source of the rules: reference 3.7 and nats-server's `conf/parse.go`. Every input ends in a tree or in a
//! problem: nesting, the number of included files and the size to which variables may grow a tree are bounded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::lex::{Cursor, Scalar};
use crate::loader::Loader;
use crate::report::Problem;
use crate::value::{Data, Entry, Map, Position, Value};

/// How deep maps, lists and included files may nest.
pub const DEPTH_MAX: usize = 64;
/// How many files one configuration may include.
pub const INCLUDES_MAX: usize = 1024;
/// How much memory, in bytes, values that were repeated by variables may take together.
pub const REPEATED_BYTES_MAX: usize = 64 << 20;

/// The world as a configuration text sees it.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// Reads files.
    pub files: &'a dyn Loader,
    /// Looks up a variable of the environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// Reads the file at `path` and everything that it includes. Included paths are relative to the including file.
pub fn parse_file(path: &Path, world: World<'_>) -> Result<Map, Problem> {
    let name = path.display();
    let text = world.files.read(path).map_err(|error| Problem::general(format!("{name}: {error}")))?;
    parse(&name.to_string(), directory(path), &text, world)
}

/// Reads `text`, called `name` in messages; included paths are relative to `directory`. Any bytes are a fit input.
pub fn parse(name: &str, directory: &Path, text: &[u8], world: World<'_>) -> Result<Map, Problem> {
    let mut state = State { world, includes: 0, repeated: 0, looking_up: Vec::new() };
    Parser::new(&mut state, name, directory, text, 0)?.file()
}

/// What the parsers of a file and of its included files share.
struct State<'a> {
    world: World<'a>,
    includes: usize,
    /// Bytes that variables have copied so far.
    repeated: usize,
    /// Variables of the environment that are being read now, outermost first.
    looking_up: Vec<String>,
}

struct Parser<'s, 'a, 't> {
    state: &'s mut State<'a>,
    cursor: Cursor<'t>,
    directory: PathBuf,
    depth: usize,
    /// The maps under construction, outermost first: where variables are looked up.
    scopes: Vec<Map>,
}

/// The three places where keys stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// The file itself.
    File,
    /// Braces around the file's content, as in JSON: the keys belong to the file.
    Wrapped,
    /// A map.
    Map,
}

impl<'s, 'a, 't> Parser<'s, 'a, 't> {
    fn new(
        state: &'s mut State<'a>,
        name: &str,
        directory: &Path,
        text: &'t [u8],
        depth: usize,
    ) -> Result<Self, Problem> {
        let cursor = Cursor::new(Arc::from(name), text);
        if let Some(at) = text.iter().position(|byte| *byte == 0) {
            let mut cursor = cursor;
            (0..at).for_each(|_| cursor.bump());
            return Err(cursor.problem("the text contains a zero byte"));
        }
        Ok(Self { state, cursor, directory: directory.to_owned(), depth, scopes: vec![Map::default()] })
    }

    fn file(mut self) -> Result<Map, Problem> {
        self.body(Body::File)?;
        Ok(self.scopes.pop().unwrap_or_default())
    }

    /// Keys and values up to the end of `body`, into the innermost scope.
    fn body(&mut self, body: Body) -> Result<(), Problem> {
        loop {
            self.cursor.skip_space_and_comments();
            match (self.cursor.peek(), body) {
                (None, Body::File) => return Ok(()),
                (None, _) => return Err(self.cursor.unexpected("'}'")),
                (Some(b'}'), Body::Wrapped | Body::Map) => {
                    self.cursor.bump();
                    return Ok(());
                }
                (Some(b'}'), Body::File)
                    if self.cursor.rest().iter().skip(1).all(u8::is_ascii_whitespace) =>
                {
                    return Ok(());
                }
                (Some(b'{'), Body::File | Body::Wrapped) => {
                    self.cursor.bump();
                    self.nested(|this| this.body(Body::Wrapped))?;
                    continue;
                }
                (Some(b'/'), _) | (Some(b']'), Body::Map) => return Err(self.cursor.unexpected("a key")),
                _ => self.entry(body)?,
            }
            self.cursor.skip_blanks();
            self.cursor.skip_comment();
            match (self.cursor.peek(), body) {
                (Some(b'\n' | b'\r' | b',' | b';'), _) | (Some(b'}'), Body::File) => self.cursor.bump(),
                (Some(b'}'), _) | (None, _) => {}
                _ => return Err(self.cursor.unexpected("a line end, ',' or ';' behind the value")),
            }
        }
    }

    fn entry(&mut self, body: Body) -> Result<(), Problem> {
        let mut at = self.cursor.position();
        let (key, quoted) = self.cursor.key()?;
        // As nats-server counts, a quoted key starts behind its quote.
        at.column += u32::from(quoted);
        if !quoted && key.eq_ignore_ascii_case("include") && self.cursor.at_space() {
            return self.include(&at);
        }
        self.cursor.skip_space();
        if self.cursor.peek().is_none() {
            return Err(Problem::new(&at, format!("the key '{key}' has no value")));
        }
        if let Some(b'=' | b':') = self.cursor.peek() {
            self.cursor.bump();
        }
        if body == Body::File {
            self.cursor.skip_blanks();
        } else {
            self.cursor.skip_space();
            if let Some(b',' | b'}') = self.cursor.peek() {
                return Err(Problem::new(&at, format!("the key '{key}' has no value")));
            }
        }
        let data = self.value(&at)?;
        self.set(key, Value { at, data });
        Ok(())
    }

    fn set(&mut self, key: String, value: Value) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(key, Entry { value, used: false });
        }
    }

    fn value(&mut self, at: &Position) -> Result<Data, Problem> {
        match self.cursor.peek() {
            Some(b'[') => {
                self.cursor.bump();
                self.nested(Self::list)
            }
            Some(b'{') => {
                self.cursor.bump();
                self.scopes.push(Map::default());
                self.nested(|this| this.body(Body::Map))?;
                Ok(Data::Map(self.scopes.pop().unwrap_or_default()))
            }
            _ => match self.cursor.scalar()? {
                Scalar::Value(data) => Ok(data),
                Scalar::Variable(name) => self.variable(name, at),
            },
        }
    }

    fn list(&mut self) -> Result<Data, Problem> {
        let mut list = Vec::new();
        loop {
            self.cursor.skip_space_and_comments();
            match self.cursor.peek() {
                Some(b']') => {
                    self.cursor.bump();
                    return Ok(Data::List(list));
                }
                None | Some(b',' | b'/') => return Err(self.cursor.unexpected("a value or ']'")),
                Some(_) => {}
            }
            let at = self.cursor.position();
            let data = self.value(&at)?;
            list.push(Value { at, data });
            self.cursor.skip_blanks();
            self.cursor.skip_comment();
            match self.cursor.peek() {
                Some(b',' | b'\n' | b'\r') => self.cursor.bump(),
                Some(b']') => {}
                _ => return Err(self.cursor.unexpected("',', a line end or ']'")),
            }
        }
    }

    fn nested<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T, Problem>) -> Result<T, Problem> {
        if self.depth >= DEPTH_MAX {
            return Err(self.cursor.problem(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    /// The value of `$name`: from the enclosing maps, inner ones first, then from the environment.
    fn variable(&mut self, name: String, at: &Position) -> Result<Data, Problem> {
        // A bcrypt hash may stand without quotes.
        if matches!(name.as_bytes(), [b'2', b'a' | b'b' | b'x' | b'y', b'$', ..]) {
            return Ok(Data::Text(format!("${name}")));
        }
        let known = self.scopes.iter_mut().rev().find_map(|scope| scope.lend(&name));
        if let Some(value) = known {
            let (bytes, depth) = value.measure();
            self.state.repeated = self.state.repeated.saturating_add(bytes);
            if self.depth + depth > DEPTH_MAX || self.state.repeated > REPEATED_BYTES_MAX {
                return Err(Problem::new(
                    at,
                    format!("the variable '{name}' makes the configuration too large"),
                ));
            }
            return Ok(value.data.clone());
        }
        if self.state.looking_up.contains(&name) {
            return Err(Problem::new(at, format!("the variable '{name}' refers to itself")));
        }
        let Some(text) = (self.state.world.environment)(&name) else {
            return Err(Problem::new(at, format!("the variable '{name}' is not defined")));
        };
        let label = format!("${name}");
        self.state.looking_up.push(name);
        let value = Parser::new(self.state, &label, &self.directory, text.as_bytes(), self.depth + 1)
            .and_then(Parser::lone_value)
            .map_err(|problem| Problem::new(at, problem.to_string()));
        self.state.looking_up.pop();
        value
    }

    /// A value that is all of the text, as in a variable of the environment.
    fn lone_value(mut self) -> Result<Data, Problem> {
        self.cursor.skip_blanks();
        let at = self.cursor.position();
        let data = self.nested(|this| this.value(&at))?;
        self.cursor.skip_space_and_comments();
        if self.cursor.peek().is_some() {
            Err(self.cursor.unexpected("nothing behind the value"))
        } else {
            Ok(data)
        }
    }

    /// Merges the keys of another file into the innermost scope. Variables do not reach into that file.
    fn include(&mut self, at: &Position) -> Result<(), Problem> {
        let path = self.directory.join(self.cursor.include_path()?);
        self.state.includes += 1;
        if self.state.includes > INCLUDES_MAX {
            return Err(Problem::new(at, format!("more than {INCLUDES_MAX} files are included")));
        }
        let name = path.display().to_string();
        let text = self.state.world.files.read(&path);
        let text = text.map_err(|error| Problem::new(at, format!("can not include '{name}': {error}")))?;
        let map =
            self.nested(|this| Parser::new(this.state, &name, directory(&path), &text, this.depth)?.file())?;
        if let Some(scope) = self.scopes.last_mut() {
            map.into_iter().for_each(|(key, entry)| scope.insert(key, entry));
        }
        Ok(())
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
