"""The lattice grids of IQ1, IQ2 and IQ3: which points they have, and which of them lie near others.

A grid point is a run of 8 weights (IQ1, IQ2) or of 4 (IQ3), each on one of a few levels; a block
names points by their index. All runs, on the grid or not, are numbered by their levels as digits,
that of the first weight the lowest:

    IQ1, IQ2   levels 0 1 2    ->  number = level[0] + 3 level[1] + 9 level[2] + ...    of 3**8
    IQ3        levels 0 .. 7   ->  number = level[0] + 8 level[1] + 64 level[2] + ...   of 8**4

ggml's grids are in ascending order of that number, so that one bit a number tells a grid.
Sources: ggml-common.h, `iq1s_grid`, `iq2xxs_grid`, `iq2xs_grid`, `iq2s_grid`, `iq3xxs_grid`,
`iq3s_grid`, `ksigns_iq2xs` (the numbers taken through gguf-py 0.19); ggml-quants.c,
`iq2xs_init_impl` and `iq3xs_init_impl`, for the neighbours.
Left out: searching them (`iq_search`).
"""

import base64
import zlib
from functools import cache
from typing import NamedTuple

import numpy as np

Array = np.ndarray

LEVELS = {
    "IQ1_S": (-1, 0, 1),
    "IQ1_M": (-1, 0, 1),
    "IQ2_XXS": (8, 25, 43),
    "IQ2_XS": (8, 25, 43),
    "IQ2_S": (8, 25, 43),
    "IQ3_XXS": (4, 12, 20, 28, 36, 44, 52, 62),
    "IQ3_S": (1, 3, 5, 7, 9, 11, 13, 15),
}

# The neighbours of a run are the grid points at the smallest distances, this many different ones.
_DISTANCES = {
    "IQ1_S": 3, "IQ1_M": 3, "IQ2_XXS": 2, "IQ2_XS": 2, "IQ2_S": 1, "IQ3_XXS": 2, "IQ3_S": 3,
}  # fmt: skip

# Seven bits are stored of eight signs: the eighth makes the number of negative ones even.
EVEN_SIGNS = np.array([seven | seven.bit_count() % 2 << 7 for seven in range(128)], dtype=np.uint8)

# A bit for each number, the highest bit of a byte first, as base85 of zlib.
_POINTS = {
    "IQ2_XXS": (
        "c-nPRORj`4470MbdWwiuj~R8vF<3s$DPNNQV8mEdDvh1mfzMz4@MsNM4-kL~Dg?0u3Z<Q}s#5&i%a^YL7=qILyw)"
        "W4Cso8iRnlpCLd`c4Du;C<RlH?aajd+e<FY7)k8>WSTt@47wX1jPqB41q=2e+&9hy;#r#nzQ(d`wV2I-N(E<X_7h"
        "ks$x7)Do8!;TEvZcdv+$;Bf*s-;99+U-&7)=?KnsoS&M%ZZjW8ztGaG<oin^)>q~!#84@<5Q?C;cAe-jqH$lW6s<"
        "jvF<nQc*Z$~yKl@H%B$)D{-`Y{-_v~Aze0c0{sHUUCpi"
    ),
    "IQ2_XS": (
        "c-mc2ORj`4470L|dWwh@;*?QWh*MOoP)|Aew9xme83;|{*iP^L>UVu^J$f&9<)%0;rYcZH@zkTcz*1-`0#F4vd)c"
        "qIa~EY0S(m36us~sl4e+uqnt+xnD5p1ifdk&k2^cqyDKl&hVwLuN#<u{Y#82-D2r2AS*#~B;6>b%zZ?$An2Qav5O"
        "yP;?IjC1*OUa>YNXBOJs!l*N%2M9ag1pZ#qbS<pDODX)Ys@FiGwcn?g7z}ZUJ85J?WuXe7)kq!xj_MC=sehbo`f6"
        "hw91-EjVApg;SBK(#S-ctqy5bslAAu_xaBeODLPcR%XL4jpOCvsj1dP@iIwgyVBr<uBI!nKMuUZZ1qQNNP<bV}FG"
        "N4KvRv{ky>(2~*Gt;x6q$P={6Cb#@3Dfxx_wWh`vWo0U*P"
    ),
    "IQ2_S": (
        "c-n1JOKt@r42!agI0c#&;*=39#3>LflvCCTO#7-9jpk=;Y=fB%TefG%OIlXuE_Fz<Ougf=%xu>+l3Bq8hyjg~lMr"
        "unmZ<Wy`~YGiEi#3On5vBd<vmKZSi%aW(psKWGWlAsphF>8rUC+;ZDfa(=s@_F#i0yss$-8fvv#Vf@jNV{kuiVLg"
        "A~66J1A2@4RVJKUxH}IH-$JpaZ^g})pmKjjd>lmojtPqGOJ!xqXVV(I)s3f1HneH&<4|id_Zsqi~d9|fZw$~1nHW"
        "O$bgs-@JBFei6qb36Asxo<#s4;BRhd~d<sfnbhG0<$t^)oE$@gK%zO1xyELVB%s1k`FAKZeJ@WjCtPZ6s4%XC=!C"
        "hZ<C{I5t%jB|RQ$q0^0H^%ZVVCdNfJ9HPfzZdmWSrg_I({bPgptf%^rJMcpz`hTS7u<>s9rVvW-WSa`T|j+oGk"
    ),
    "IQ3_XXS": (
        "c-l=-K?=h#3{ye}VW$qZd!FLL9+1HvWO^EVh1sdkoaHp#R7#szmgHo6m{j1}>~2z^o7e*jro|>W6f;suxGq5Thww"
        "rH-tdy3S=*8VCKknJ;ww~xN=C-Lt2kc1f`n?I#<sN&{qc;xi`rsIog^>xCi>0vO72GEj+P?`#G30*;dkafo0(MD7"
        "0~26E5oy)Fh-PS2J_iYxE!Gh>5A3e2Aw8l#Lz*UZ2xyz&!sE!Xy7=t?heopubnm$;UMyR4j1Wf!f;*xLWT6+u!rw"
        "*Hy!tqyDZ17JdzPtf@!~_J7yrh&WtZi"
    ),
    "IQ3_S": (
        "c-k#dK}rKb5Ud?m7(7iN59ovqtiR~U2pdlmS^v`sIn3TR;sZue5Z@6$Amj-`@D=vV+J}a&>aMEU{rNq)_mDQ1)6r"
        "Xa`g-zl6)-xV9&D<-%sLtw(&E+K!8jAZAn=FIh`{BX?s3iZ9eL!0y{saQwa{i<M_rV8i?Gza!ZNf5Tx$=B>&%}&x"
        "2aFnb2>I1DZfG3@eJJ?w}Hf9jj>U<u}qaX$V(Q{%bJZi0qBwX8+P2=0D&xpG^*kpx3aC_+^woo1gDy;frCMb5s>P"
        "fCelExhl@Z5=M_J&lZwQK<TIaOt1Nd_t_Z4Nkqr(Irw~QLK*sjOloy2EUU#sN3YKfvLC9pG+yhGG#kO><KBF1{I~"
        "{B$E!8AqIlE}-BNQAl`R33C|JNFjj93D(#a!oZudm_a(c~OHe<Yb)Y4R?AVbTWv01QA~hX"
    ),
    "IQ1": (
        "c-k#eO>0z16uqyx#k83y_qA0qE*kA7fk#%6iL;cd<W&+S(JE7AEBc6nlGQ*KX*Z#@1057+gows$6w-}Cbfte_m;o"
        "2UY|_#*VZa~*x^U%6T=`Mm&aUdhx#ygF&eKOplgaU0)cQ?aLaWb`!=%}lC@i-gZEZ5CFdhU_><`D{U2pdIZAiiRB"
        "Z^Tjpc--1mjt-&r-O_l7bZy)3*%3zRUeyRXfJ~s5?<5PM<UK4aB<I3L}>n{hnc{+>K$G67mn>zvR$=UOtZPa7LUs"
        "mQWQ2bN)ou!Kj_yfb~LQyR=nku)`P+=g=?+GNRyF#AueD^;Yg67k)HG=(os>Uh!rG~(gRxZza2HhyPsM)=qh9|eh"
        "XUldkU;_wA!C+2Fv`rcq!34!0Fqz%0;&7#XeAmBu`}t6ci#>+3WlSwzITy{$0C$RU8lhlWkibbyz6nxOL=l|4%yA"
        "AJ4G^LV^S*V!(*CwdNU%)Qrh$#q9cyW*tq|@QQ}j896#XTv`6q5lhc&*LLPVeEGcad$xT4&D*b^FV9bJ+^}ih*A`"
        "2jX2rIue$9q9{)`S!jt!g=X1D{vGEMnukjj}Wcvs!oqc~_d61@aP1V3Bvcjc9uWpgt6=l#-;vm1GpU-HX*>(|GJ!"
        "F2C{R9{8qA7trFiLFJ0VD+S2Ny_0+jiaiUvPbU!Gt<44HyL$nQ%A{iI)xZW(;0iU=zRoe)YSg8LFF!L&Ei&Q)Fng"
        "Sxd==b)ez8IIEAq?gCPR1z1`cE#svx$dBcgrdMr~`+vY{G*{j)LdH7J(;|V_S3+rEqj0{aUGZ~5`z3=#nUT2ypkI"
        "bf^7Qd%#dKF#22&cWI$B=(k{y*i-P-%7a6aqltG8tC11XWn$8wuQe)#`Rb$ezM@h+=MX6ehv4>@KW-1MD8)wE"
    ),
}


class Neighbours(NamedTuple):
    """The grid points among which a search looks for the one to replace a run that is on no grid.

    runs: (numbers, 2) int32: (index, -1) of the grid point with this number; where there is none,
        the first row of its neighbours in `points` and `steps`, and the row after the last.
    points: (N, 8) int32, the indices of these grid points, the nearest ones first; the last one
        repeated to fill the last row.
    steps: (N, width, 8) int8, the levels of the points of a row, 1, 3, 5, ... (IQ1: -1, 0, 1).
    grid: (points, width) float32, the levels of all grid points in the same numbers.
    """

    runs: Array
    points: Array
    steps: Array
    grid: Array


def point_numbers(type: str) -> Array:
    """(points,) int64: the numbers of the grid points of a type, ascending."""
    packed = zlib.decompress(base64.b85decode(_POINTS["IQ1" if type[:3] == "IQ1" else type]))
    return np.flatnonzero(np.unpackbits(np.frombuffer(packed, dtype=np.uint8)))


def split_numbers(numbers: Array, type: str) -> Array:
    """(n,) numbers -> (n, width) int64: the levels that they are made of, 0, 1, 2, ..."""
    base = len(LEVELS[type])
    return numbers[:, None] // base ** np.arange(4 if base == 8 else 8) % base


def grid_levels(type: str) -> Array:
    """(points, width) int8: the grid of a type as in ggml-common.h; of IQ2 and IQ3, magnitudes."""
    return np.array(LEVELS[type], dtype=np.int8)[split_numbers(point_numbers(type), type)]


@cache
def find_neighbours(type: str) -> Neighbours:
    """The neighbours of all runs that are not on the grid of a type; made at first use, then kept.

    It takes 30 to 500 ms, and up to 4 MB (IQ1).
    """
    on_grid = point_numbers(type)
    levels = split_numbers(on_grid, type)
    runs = np.full((len(LEVELS[type]) ** levels.shape[1], 2), -1, dtype=np.int32)
    runs[on_grid, 0] = np.arange(len(on_grid))
    off_grid = np.flatnonzero(runs[:, 0] < 0)
    tiles = [
        _nearest_points(split_numbers(off_grid[start : start + 256], type), levels, type)
        for start in range(0, len(off_grid), 256)
    ]
    counts = np.concatenate([counts for counts, _ in tiles])
    points = np.concatenate([points for _, points in tiles])
    runs[off_grid, 1] = counts.cumsum()
    runs[off_grid, 0] = runs[off_grid, 1] - counts
    steps = (levels - 1 if type[:3] == "IQ1" else 2 * levels + 1).astype(np.int8)
    turned = np.ascontiguousarray(steps[points].transpose(0, 2, 1))
    return Neighbours(runs, points.astype(np.int32), turned, steps.astype(np.float32))


def _nearest_points(runs: Array, levels: Array, type: str) -> tuple[Array, Array]:
    """The neighbours of runs (n, width): how many rows of 8 each has (n,), and the rows (N, 8)."""
    far = 1 << 16
    squares = (runs * runs).sum(axis=1)[:, None] + (levels * levels).sum(axis=1)
    products = runs.astype(np.float32) @ levels.T.astype(np.float32)  # faster, and still exact
    distances = (squares - 2 * products).astype(np.int32)
    limit = distances.min(axis=1, keepdims=True)
    for _ in range(_DISTANCES[type] - 1):
        farther = np.where(distances > limit, distances, far).min(axis=1, keepdims=True)
        limit = np.where(farther < far, farther, limit)
    near = distances <= limit
    run, point = np.nonzero(near)
    order = np.lexsort((point, distances[near], run))
    counts = near.sum(axis=1)
    ends = counts.cumsum()
    rows = -(-counts // 8)
    place = np.arange(8 * rows.sum()) - np.repeat(8 * (rows.cumsum() - rows), 8 * rows)
    source = np.minimum(np.repeat(ends - counts, 8 * rows) + place, np.repeat(ends - 1, 8 * rows))
    return rows, point[order][source].reshape(-1, 8)
