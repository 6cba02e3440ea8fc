"""Sentences in many scripts, program text, and odd strings, to try a tokenizer on.

The sentences say the same simple thing in every language. Left out: corpora; give your own texts.

Source: written for this project.
"""

from types import MappingProxyType

__all__ = ["ODD_STRINGS", "SAMPLES", "script_of"]

SAMPLES = MappingProxyType(
    {
        "English": "The weather is nice today, so the children are playing in the garden.",
        "German": "Das Wetter ist heute schön, deshalb spielen die Kinder im Garten.",
        "French": "Il fait beau aujourd'hui, alors les enfants jouent dans le jardin.",
        "Spanish": "Hoy hace buen tiempo, así que los niños juegan en el jardín.",
        "Polish": "Dziś jest ładna pogoda, więc dzieci bawią się w ogrodzie.",
        "Turkish": "Bugün hava güzel, bu yüzden çocuklar bahçede oynuyor.",
        "Vietnamese": "Hôm nay thời tiết đẹp, nên bọn trẻ đang chơi trong vườn.",
        "Swahili": "Hali ya hewa ni nzuri leo, kwa hiyo watoto wanacheza bustanini.",
        "Russian": "Сегодня хорошая погода, поэтому дети играют в саду.",
        "Greek": "Ο καιρός είναι καλός σήμερα, γι' αυτό τα παιδιά παίζουν στον κήπο.",
        "Armenian": "Այսօր եղանակը լավն է, ուստի երեխաները խաղում են այգում։",
        "Georgian": "დღეს კარგი ამინდია, ამიტომ ბავშვები ბაღში თამაშობენ.",
        "Hebrew": "מזג האוויר יפה היום, ולכן הילדים משחקים בגינה.",
        "Arabic": "الطقس جميل اليوم، لذلك يلعب الأطفال في الحديقة.",
        "Hindi": "आज मौसम अच्छा है, इसलिए बच्चे बगीचे में खेल रहे हैं।",
        "Bengali": "আজ আবহাওয়া ভালো, তাই শিশুরা বাগানে খেলছে।",
        "Tamil": "இன்று வானிலை நன்றாக உள்ளது, எனவே குழந்தைகள் தோட்டத்தில் விளையாடுகிறார்கள்.",
        "Thai": "วันนี้อากาศดี เด็กๆ จึงเล่นอยู่ในสวน",
        "Chinese": "今天天气很好，所以孩子们在花园里玩。",
        "Japanese": "今日は天気がいいので、子どもたちは庭で遊んでいます。",
        "Korean": "오늘은 날씨가 좋아서 아이들이 정원에서 놀고 있습니다.",
        "Amharic": "ዛሬ አየሩ ጥሩ ነው፣ ስለዚህ ልጆቹ በአትክልቱ ውስጥ ይጫወታሉ።",
        "emoji": "☀️😀🌳👩‍👩‍👧‍👦🏡 🎉🎈",
        "numbers": "2024-07-26 12:30:05, 3.14159, 1,000,000, 0xFF, 42 %, -7e10",
        "Python": "def area(r: float) -> float:\n    return 3.14159 * r**2  # of a circle\n",
        "C": 'int main(void) {\n\tfor (int i = 0; i < 10; i++) printf("%d\\n", i);\n}\n',
        "JSON": '{"name": "Ann", "tags": ["a", "b"], "size": {"w": 10, "h": 2.5}}',
    }
)
ODD_STRINGS = MappingProxyType(
    {
        "empty": "",
        "one space": " ",
        "spaces in front": "   a",
        "spaces behind": "a   ",
        "spaces between": "a  b   c    d",
        "tabs": "\ta\t\tb",
        "line ends": "a\nb\r\nc\rd\n\n",
        "space before signs": "a , b . c ! d ? 's 're ' x",
        "no-break space": "a\xa0b\u2009c\u3000d",
        "zero width": "a\u200bb\u200dc\ufeffd",
        "composed": "é ü ñ",
        "decomposed": "e\u0301 u\u0308 n\u0303",
        "compatible forms": "ﬁ ² ½ ① Ａ",
        "space sign of SentencePiece": "a▁b ▁c",
        "controls": "a\x00b\x01c\x7fd",
        "capitals": "ÀÉÎ STRASSE ẞ İ",
        "family emoji": "👩‍👩‍👧‍👦",
        "rare letters": "𓀀 𝕏 𒀀 ꙮ",
        "noncharacter": "a\uffffb\U0010ffff",
        "like special tokens": "<s> </s> <|endoftext|> <unk> [CLS]",
        "long word": "ab" * 40,
    }
)
RANGES = (  # first and last code point of the letters of a script, most texts' first
    (0x0041, 0x024F, "Latin"), (0x1E00, 0x1EFF, "Latin"), (0x0370, 0x03FF, "Greek"),
    (0x1F00, 0x1FFF, "Greek"), (0x0400, 0x052F, "Cyrillic"), (0x0530, 0x058F, "Armenian"),
    (0x0590, 0x05FF, "Hebrew"), (0x0600, 0x077F, "Arabic"), (0x0780, 0x07BF, "Thaana"),
    (0x0900, 0x097F, "Devanagari"), (0x0980, 0x09FF, "Bengali"), (0x0A00, 0x0A7F, "Gurmukhi"),
    (0x0A80, 0x0AFF, "Gujarati"), (0x0B00, 0x0B7F, "Oriya"), (0x0B80, 0x0BFF, "Tamil"),
    (0x0C00, 0x0C7F, "Telugu"), (0x0C80, 0x0CFF, "Kannada"), (0x0D00, 0x0D7F, "Malayalam"),
    (0x0D80, 0x0DFF, "Sinhala"), (0x0E00, 0x0E7F, "Thai"), (0x0E80, 0x0EFF, "Lao"),
    (0x0F00, 0x0FFF, "Tibetan"), (0x1000, 0x109F, "Myanmar"), (0x10A0, 0x10FF, "Georgian"),
    (0x1200, 0x139F, "Ethiopic"), (0x1780, 0x17FF, "Khmer"), (0x3040, 0x30FF, "Kana"),
    (0x1100, 0x11FF, "Hangul"), (0xAC00, 0xD7AF, "Hangul"), (0x3400, 0x4DBF, "Han"),
    (0x4E00, 0x9FFF, "Han"), (0x20000, 0x3FFFF, "Han"), (0x2600, 0x27BF, "Emoji"),
    (0x1F000, 0x1FAFF, "Emoji"),
)  # fmt: skip


def script_of(text: str) -> str:
    """The script of most letters of a text, by Unicode ranges; kana make a text Kana.

    Returns: "Common" for a text without letters of a known script.
    """
    counts: dict[str, int] = {}
    for character in text:
        if character.isalpha() or ord(character) > 0x2600:
            code = ord(character)
            name = next((name for first, last, name in RANGES if first <= code <= last), None)
            if name:
                counts[name] = counts.get(name, 0) + 1
    if not counts:
        return "Common"
    if counts.get("Kana") and counts.get("Han"):
        return "Kana"
    return max(counts, key=counts.__getitem__)
