"""Chat templates that try to take all time or memory, or to get out of the sandbox."""

SETUP = "{% set ns = namespace(s='a', l=[], k=range(99999) | list, t='a' * 3000000 + 'b') %}"
FOREVER = "{%% for i in range(99999) %%}{%% for j in range(99999) %%}%s{%% endfor %%}{%% endfor %%}"
SHARED = (  # a tuple and a list of 2**60 elements in 60 objects
    "{% set ns = namespace(t=(1,), l=['a'], m=['a'], d={'a': 1}) %}{% for i in range(60) %}"
    "{% set ns.t = (ns.t, ns.t) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}"
    "{% set ns.d = {'a': ns.d, 'b': ns.d} %}{% endfor %}"
)


def forever(*expressions: str) -> list[str]:
    return [FOREVER % f"{{% set x = {expression} %}}" for expression in expressions]


def growing(*expressions: str) -> list[str]:
    """ns.s grows in every turn."""
    turn = "{%% for i in range(99) %%}{%% set ns.s = %s %%}{%% endfor %%}"
    return [SETUP + turn % expression for expression in expressions]


def kept(*expressions: str) -> list[str]:
    """ns.l keeps every value."""
    return [
        SETUP + FOREVER % f"{{% set ns.l = [ns.l, {expression}] %}}" for expression in expressions
    ]


def shared(*expressions: str) -> list[str]:
    return [SHARED + "{{ " + expression + " }}" for expression in expressions]


def printed(*expressions: str) -> list[str]:
    return ["{{ " + expression + " }}" for expression in expressions]


TIME = [
    FOREVER % "",
    "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
    "{% macro m0() %}x{% endmacro %}"
    + "".join(
        f"{{% macro m{i + 1}() %}}{{{{ m{i}() ~ m{i}() }}}}{{% endmacro %}}" for i in range(60)
    )
    + "{{ m60() }}",
    "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    FOREVER % "{% break %}" * 900,
    "{% set c = cycler(1, 2) %}" + FOREVER % "{{ c.next() }}",
    *forever(
        "range(99999) | select('odd') | list",
        "range(99999) | sum",
        "range(99999) | map('string') | join",
        "'x' in range(99999)",
        "('a' * 3000000).find('a' * 100000 + 'b')",
        "('a' * 3000000).rfind('ab' + 'a' * 1000000)",
        "('a' * 3000000).rsplit('ab' + 'a' * 1000000)",
        "('a' * 3000000).strip('b' * 1000000 + 'a')",
        "('a' * 3000000) | trim('b' * 1000000 + 'a')",
        "('a ' * 1000000) | title",
        "('a ' * 1000000) | wordcount",
        "('a ' * 1000000) | truncate(9999999)",
        "('f' * 100000) | int(0, 16)",
        "['a' * 1000000, 'a' * 1000000] | sort",
        "[0] * 300000 < [0] * 300000",
        "cycler(*range(99999))",
        "messages | tojson",
    ),
]
SPACE = [
    *printed(
        "'a' * 10**10",
        "10**10 * 'a'",
        "[0] * 10**9",
        "(0,) * 10**9",
        "10 ** 100000000",
        "(0 - 2) ** 100000000",
        "'%10000000000d' % 1",
        "'%.1000000000f' % 1",
        "'%*d' % (10**9, 1)",
        "'%((a))1000000000d' % {'(a)': 1}",
        "'%(a%b)1000000000d' % {'a%b': 1}",
        "'%1000000000d' | format(1)",
        "'{:1000000000}'.format(1)",
        "'{:{}}'.format(1, 10**9)",
        "('{:1000000000}' | attr('format'))(1)",
        "'{:1000000000}'['format'](1)",
        "'a' | center(10**9)",
        "'a'.center(10**9)",
        "['a'] | map('center', 10**9) | list",
        "'a'.ljust(10**9)",
        "'a'.rjust(10**9, 'x')",
        "'a'.zfill(10**9)",
        "'\\t'.expandtabs(10**9)",
        "'\\t'.expandtabs(tabsize=10**9)",
        "'a\\nb' | indent(10**9)",
        "('a\\n' * 100000) | indent(width=100000)",
        "[1] | batch(10**9, 0) | list",
        "[1] | batch(linecount=10**9, fill_with=0) | list",
        "[1] | slice(10**9) | list",
        "[1] | slice(slices=10**9) | list",
        "5 | round(0 - 10**9)",
        "5 | round(precision=10**9, method='ceil')",
        "[[1]] | tojson(indent=10**9)",
        "([1] * 100000) | tojson(separators=('x' * 100000, ':'))",
        "([1] * 100000) | tojson(indent='x' * 100000)",
        "([[0] * 10000] * 3000) | sum(start=[])",
        "('漢' * 3000000) | list",
        "('漢 ' * 1000000).split()",
        "('漢\\u3000' * 1000000).split()",
        "('漢,' * 1000000).split(',')",
        "('漢\\n' * 1000000).splitlines()",
        "('a' * 100000).join(['a'] * 100000)",
        "('a' * 100000).join((['a'] * 100000) | map('upper'))",
        "(['a'] * 100000) | join('a' * 100000)",
        "(['a'] * 100000) | map('upper') | join('a' * 100000)",
        "('a' * 100000) | replace('', 'b' * 100000)",
        "('a' * 100000) | replace(old='a', new='b' * 100000)",
        "('a' * 100000).replace('a', 'b' * 100000)",
        "range(10**9) | list",
    ),
    *growing(
        "ns.s + ns.s",
        "ns.s ~ ns.s",
        "ns.s | e + ns.s",
        "[ns.s, ns.s] | join",
        "''.join([ns.s, ns.s])",
        "ns.s | replace('a', 'aa')",
        "ns.s.replace('', 'aaaa')",
        "'%s%s' | format(ns.s, ns.s)",
        "'%s%s' % (ns.s, ns.s)",
        "'{0}{0}'.format(ns.s)",
        "[ns.s, ns.s] | string",
        "[ns.s, ns.s] | tojson | tojson",
    ),
    *kept(
        "ns.t[1:]",
        "ns.t + 'b'",
        "ns.t | upper",
        "ns.t.upper()",
        "ns.t.partition('b')",
        "ns.t.split('b')",
        "ns.k[1:]",
        "ns.k.copy()",
        "ns.k | list",
        "ns.k | batch(2) | list",
        "ns.k | sort",
        "(" + "0," * 20000 + ")",
    ),
    SETUP + "{% for i in range(99) %}{% set ns.n = (ns.n or 3) * (ns.n or 3) %}{% endfor %}",
    FOREVER % ("x" * 50000),
    "{% macro m() %}" + FOREVER % ("x" * 50000) + "{% endmacro %}{% set x = m() %}",
    "{% set x %}" + FOREVER % ("x" * 50000) + "{% endset %}",
    "{% set s = 'a' * 1000000 %}" + FOREVER % "{{ s }}",
    *shared(
        "ns.l",
        "ns.d",
        "ns.l ~ ''",
        "ns.l | tojson",
        "ns.l | string",
        "ns.l | safe",
        "ns.l == ns.m",
        "ns.l is eq(ns.m)",
        "[ns.l] | select('eq', ns.m) | list",
        "ns.l in [ns.m]",
        "[ns.m].count(ns.l)",
        "{ns.t: 1}",
        "{}[ns.t]",
        "{}.get(ns.t)",
        "dict([(ns.t, 1)])",
        "{} | attr(ns.t)",
        "[ns.t] | unique | list",
        "[ns.t, ns.t] | min",
        "[{'a': ns.l}, {'a': ns.l}] | groupby('a') | list",
        "[{'a': ns.l}] | join('', attribute='a')",
        "[ns.l] | map('string') | list",
        "'{}'.format(ns.l)",
        "'%s' % [ns.l]",
        "strftime_now(ns.t)",
        "raise_exception(ns.t)",
        "range(ns.t)",
        "ns",
    ),
    SHARED + "{% for x in [ns.l, ns.m] %}{{ loop.changed(x) }}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.l = [ns, ns] %}{{ ns }}",
]
NESTED = [
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "{{ " + "1+" * 20000 + "1 }}",
    "{{ a" + ".b" * 20000 + " }}",
    "{{ " + "not " * 10000 + "1 }}",
    "{% if 1 %}" * 1000 + "{% endif %}" * 1000,
    "{% for a in [1] %}" * 50 + "{% endfor %}" * 50,
    "{% if 0 %}" + "{% elif 0 %}" * 5000 + "{% endif %}",
]
FORBIDDEN = [
    *printed(
        "''.__class__.__mro__",
        "''['__class__'].x",
        "(''|attr('__class__')).x",
        "[''] | map(attribute='__class__') | map(attribute='__mro__') | list",
        "'{0.__class__.__mro__}'.format('')",
        "raise_exception.__globals__.x",
        "cycler.__init__.__globals__.os.popen('id')",
        "dict.mro()",
        "dict.fromkeys(range(99999), 1)",
        "messages.append(1)",
        "messages[0].update({'role': 'x'})",
        "'a'.encode().center(10**9)",
        "'a'.translate({97: 'b' * 1000000})",
        "'{a:1000000000}'.format_map({'a': 1})",
        "(1).to_bytes(10**9, 'big')",
        "([1] | map('string')).gi_frame.x",
        "([1] | map('string')).send(1)",
        "messages()",
    ),
]
