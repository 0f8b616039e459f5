//! Man pages as roff: man(7).

use clap::{Arg, ArgAction, Command};

use super::texts::{EXAMPLES, EXIT_STATUS, FILES};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The subcommands, without `help`, which would have a page for each page, and without those that are not for people.
pub(crate) fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|each| each.get_name() != "help" && !each.is_hide_set())
}

/// The page of a command that is built; its name is its words with hyphens.
pub(crate) fn of_command(command: &Command, name: &str) -> String {
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut page = head(name, "8", about.trim_end_matches('.'));
    page += ".SH SYNOPSIS\n";
    page += &synopsis(command, name);
    let long = command.get_long_about().map_or(about, ToString::to_string);
    page += &section("DESCRIPTION", &escape(&long));
    let described = |arg: &&Arg| !arg.is_hide_set();
    let (positionals, options): (Vec<_>, Vec<_>) = command
        .get_arguments()
        .filter(described)
        .partition(|arg| arg.is_positional());
    page += &list("ARGUMENTS", positionals.into_iter().map(entry));
    page += &list("OPTIONS", options.into_iter().map(entry));
    let commands = subcommands(command).map(|each| {
        let about = each
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        (format!("\\fB{name}-{}\\fR(8)", each.get_name()), about)
    });
    page += &list(
        "COMMANDS",
        commands.map(|(tag, text)| (tag.replace('-', "\\-"), escape(&text))),
    );
    page += &list("EXIT STATUS", texts(&EXIT_STATUS));
    page += &list("FILES", texts(&FILES));
    page += &examples(name);
    page + &see_also(name)
}

/// The page of the configuration file, whose comments describe it.
pub(crate) fn of_file(configuration: &str) -> String {
    let mut page = head("tfo.toml", "5", "configuration of tfo run");
    page += &section(
        "DESCRIPTION",
        "\\fBtfo run \\-c\\fR \\fIFILE\\fR reads one TOML file. SIGHUP has it read again; a file with a mistake changes \
         nothing, and the error has its line. Flags of \\fBtfo\\-run\\fR(8) win over the top of the file. It belongs to \
         root or to the user that the service runs as, and nobody else may write it.",
    );
    page += ".SH EVERY KEY\nA line that is commented out without a space shows the default.\n.PP\n.nf\n";
    page += &escape(configuration);
    page += "\n.fi\n";
    page += &list("FILES", texts(&FILES));
    page + &see_also("tfo.toml")
}

fn head(name: &str, section: &str, about: &str) -> String {
    format!(
        ".TH {} {section} \"\" \"tfo {VERSION}\" \"TCP Fast Open\"\n.SH NAME\n{} \\- {}\n",
        escape(&name.to_uppercase()),
        escape(name),
        escape(about)
    )
}

fn section(title: &str, text: &str) -> String {
    format!(".SH {title}\n{text}\n")
}

/// A section of tags and their texts; nothing where there are none.
fn list(title: &str, entries: impl Iterator<Item = (String, String)>) -> String {
    let entries: Vec<_> = entries
        .map(|(tag, text)| format!(".TP\n{tag}\n{text}\n"))
        .collect();
    let entries = entries.concat();
    if entries.is_empty() {
        return entries;
    }
    format!(".SH {title}\n{entries}")
}

fn texts(entries: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let entries = entries.iter();
    entries.map(|(tag, text)| (format!("\\fB{}\\fR", escape(tag)), escape(text)))
}

/// The command with all of its options and their values.
fn synopsis(command: &Command, name: &str) -> String {
    let mut text = format!(".B {}\n", escape(&name.replace('-', " ")));
    let arguments = command.get_arguments().filter(|arg| {
        let id = arg.get_id().as_str();
        !arg.is_hide_set() && !["help", "version"].contains(&id)
    });
    let (positionals, options): (Vec<_>, Vec<_>) = arguments.partition(|arg| arg.is_positional());
    for arg in options.into_iter().chain(positionals) {
        let dots = match arg.get_action() {
            ArgAction::Append | ArgAction::Count => "...",
            _ => "",
        };
        let form = format!("{}{dots}", form(arg, true));
        text += &if arg.is_required_set() {
            format!("{form}\n")
        } else {
            format!("[{form}]\n")
        };
    }
    if command.has_subcommands() {
        text += "\\fICOMMAND\\fR\n";
    }
    text
}

/// The flag and its value; in a synopsis the long form alone.
fn form(arg: &Arg, short_form: bool) -> String {
    let bold = |flag: String| format!("\\fB{}\\fR", escape(&flag));
    let long = arg.get_long().map(|long| bold(format!("--{long}")));
    let short = arg.get_short().map(|short| bold(format!("-{short}")));
    let flags: Vec<_> = if short_form {
        long.or(short).into_iter().collect()
    } else {
        short.into_iter().chain(long).collect()
    };
    let flags = flags.join(", ");
    if !arg.is_positional() && !arg.get_action().takes_values() {
        return flags;
    }
    let names = arg.get_value_names().unwrap_or_default();
    let value = names
        .first()
        .map_or(arg.get_id().as_str(), |name| name.as_str());
    let value = format!("\\fI{}\\fR", escape(value));
    let optional = arg
        .get_num_args()
        .is_some_and(|number| number.min_values() == 0);
    match (flags.as_str(), optional, arg.is_require_equals_set()) {
        ("", ..) => value,
        (_, true, true) => format!("{flags}[={value}]"),
        (_, true, false) => format!("{flags} [{value}]"),
        (_, false, _) => format!("{flags} {value}"),
    }
}

/// An option's or an argument's tag and text.
fn entry(arg: &Arg) -> (String, String) {
    let help = arg.get_long_help().or(arg.get_help());
    let mut text = help
        .map(|help| escape(&help.to_string()))
        .unwrap_or_default();
    let takes_values = arg.is_positional() || arg.get_action().takes_values();
    let values: Vec<_> = if takes_values {
        arg.get_possible_values()
    } else {
        Vec::new()
    };
    for value in values.iter().filter(|value| !value.is_hide_set()) {
        let help = value
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let colon = if help.is_empty() { "" } else { ": " };
        text += &format!(
            "\n.br\n\\fB{}\\fR{colon}{}",
            escape(value.get_name()),
            escape(&help)
        );
    }
    if let [default] = arg.get_default_values()
        && takes_values
    {
        text += &format!("\n.br\nDefault: {}", escape(&default.to_string_lossy()));
    }
    (form(arg, false), text)
}

fn examples(name: &str) -> String {
    let of_page = EXAMPLES.iter().filter(|(page, _)| *page == name);
    let entries = of_page.flat_map(|(_, examples)| examples.iter());
    let entries: Vec<_> = entries
        .map(|(command, what)| format!(".TP\n.B {}\n{}\n", escape(command), escape(what)))
        .collect();
    let entries = entries.concat();
    if entries.is_empty() {
        return entries;
    }
    format!(".SH EXAMPLES\n{entries}")
}

fn see_also(name: &str) -> String {
    let mut pages: Vec<_> = [
        "tfo(8)",
        "tfo-attach(8)",
        "tfo-stats(8)",
        "tfo-doctor(8)",
        "tfo-run(8)",
        "tfo.toml(5)",
    ]
    .into_iter()
    .filter(|page| page.split('(').next() != Some(name))
    .map(|page| {
        let (page, number) = page.split_once('(').unwrap_or((page, "8)"));
        format!("\\fB{}\\fR({number}", escape(page))
    })
    .collect();
    pages.push("\\fBtcp\\fR(7), \\fBip\\-netns\\fR(8)".to_owned());
    let pages = pages.join(", ");
    format!(".SH SEE ALSO\n{pages}\n.PP\nThe documentation is in /usr/share/doc/tfo/docs.\n")
}

/// Text as roff: hyphens as such, backslashes, and no line that looks like a request.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text.lines().map(|line| {
        if line.starts_with(['.', '\'']) {
            format!("\\&{line}")
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}
