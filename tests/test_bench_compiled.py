"""What is read from the text of compiled programs; no compiler is needed here."""

import math

import pytest

from rmsprop_jax.bench import __main__ as command
from rmsprop_jax.bench import (
    _compiled_command,
    _compiled_tables,
    _machine_code,
    _programs,
    _roofline,
    _targets,
)
from rmsprop_jax.bench._compiled_steps import CompiledRow
from rmsprop_jax.bench._machine_code import Kernel, Launch
from rmsprop_jax.bench._programs import HOST, Program

HEAD = "HloModule jit_step, is_scheduled=true\n\n"


def entry(*lines):
    return (
        HEAD + "ENTRY %main (p: f32[8]) -> f32[8] {\n  " + "\n  ".join(lines) + "\n}\n"
    )


PARAMETERS = (
    "%p = f32[10,100]{1,0:T(8,128)} parameter(0), sharding={replicated}",
    "%g = f32[10,100]{1,0} parameter(1)",
    "%s = u8[10,100]{1,0:T(32,128)(4,1)} parameter(2)",
)
FUSION = (
    "ROOT %f = (f32[10,100]{1,0}, /*index=1*/u8[10,100]{1,0}) fusion(%p, %g, "
    '/*index=2*/%s), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"70"}'
)


def test_a_step_at_its_limit():
    program = Program(entry(*PARAMETERS, FUSION))
    assert program.traffic() == 1000 * 14
    assert len(program.kernels()) == 1
    assert program.estimated_cycles() == 70
    assert program.collectives() == {}


def test_an_extra_copy_shows():
    copy = "%c = f32[10,100]{1,0} copy(%g)"
    program = Program(entry(*PARAMETERS, copy, FUSION.replace("%g", "%c")))
    assert program.traffic() == 1000 * (14 + 8)
    assert [x.operation for x in program.kernels()] == ["copy", "fusion"]


def test_memory_spaces_and_asynchronous_copies():
    """What a kernel takes from the memory on the chip was taken there by a copy."""
    program = Program(
        entry(
            "%g = f32[10,100]{1,0:T(8,128)} parameter(0)",
            "%h = f32[10,100]{1,0:T(8,128)S(5)} parameter(1)",
            "%b = (f32[10,100]{1,0:T(8,128)S(1)}, f32[10,100]{1,0:T(8,128)}, "
            "u32[]{:S(2)}) copy-start(%g)",
            "%d = f32[10,100]{1,0:T(8,128)S(1)} copy-done(%b)",
            "%e = ((f32[10,100]{1,0:T(8,128)}), f32[5,100]{1,0:T(8,128)S(1)}, "
            "s32[]{:S(2)}) slice-start(%g), slice={[0:5], [0:100]}",
            "ROOT %f = f32[10,100]{1,0:T(8,128)S(1)} fusion(%d, %h), calls=%fused",
        )
    )
    assert program.traffic() == 4000 + 2000
    assert program.traffic(HOST) == 4000


FUSED = """%fused (t: f32[1000,64], i: s32[8,1], r: f32[8,64]) -> f32[1000,64] {
  %t = f32[1000,64]{1,0} parameter(0)
  %i = s32[8,1]{1,0} parameter(1)
  %r = f32[8,64]{1,0} parameter(2)
  ROOT %k = f32[1000,64]{1,0} scatter(%t, %i, %r), to_apply=%add
}

"""


def test_a_scatter_in_place_moves_only_rows():
    table = (
        "%t = f32[1000,64]{1,0} parameter(0)",
        "%i = s32[8,1]{1,0} parameter(1)",
        "%r = f32[8,64]{1,0} parameter(2)",
        "ROOT %f = f32[1000,64]{1,0} fusion(%t, %i, %r), kind=kCustom, calls=%fused",
    )
    program = Program(entry(*table).replace("ENTRY", FUSED + "ENTRY"))
    assert program.traffic() == 8 * 4 + 2 * 8 * 64 * 4


def test_a_gather_moves_only_rows():
    fused = FUSED.replace("scatter(%t, %i, %r)", "gather(%t, %i)")
    fused = fused.replace("ROOT %k = f32[1000,64]", "ROOT %k = f32[8,64]")
    lines = (
        "%t = f32[1000,64]{1,0} parameter(0)",
        "%i = s32[8,1]{1,0} parameter(1)",
        "ROOT %f = f32[8,64]{1,0} fusion(%t, %i, %i), kind=kLoop, calls=%fused",
    )
    program = Program(entry(*lines).replace("ENTRY", fused + "ENTRY"))
    assert program.traffic() == 2 * 8 * 4 + 2 * 8 * 64 * 4


def test_collectives_and_their_bytes():
    program = Program(
        entry(
            "%g = f32[64]{0} parameter(0)",
            "%h = bf16[64]{0} parameter(1)",
            "%r = f32[8]{0} reduce-scatter(%g), dimensions={0}",
            "%a = (f32[8]{0}, f32[64]{0}) all-gather-start(%r), dimensions={0}",
            "%d = f32[64]{0} all-gather-done(%a)",
            "%b = bf16[64]{0} all-reduce-start(%h), to_apply=%add",
            "ROOT %t = (f32[64]{0}) tuple(%d)",
        )
    )
    assert program.collectives() == {
        "reduce-scatter": (1, 256),
        "all-gather": (1, 256),
        "all-reduce": (1, 128),
    }


PTX = """
.version 8.8
.target sm_90a
.visible .entry loop(
	.param .u64 .ptr .align 16 loop_param_0
)
.reqntid 128, 1, 1
{
	.reg .b32 	%r<4>;

	ld.param.b64 	%rd1, [loop_param_0];
$L__BB0_1:
	add.s32 	%r2, %r1, 1;
	@%p1 bra 	$L__BB0_1;
	ret;

}
"""
LISTING = """
//--------------------- .text.loop --------------------------
	.section	.text.loop,"ax",@progbits
.text.loop:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 FMNMX.NAN R18, R8, -4.61, !PT ;
        /*0020*/                   EXIT ;
.L_x_0:
        /*0030*/                   BRA `(.L_x_0);
        /*0040*/                   NOP;
"""
SEQUENCE = """000: kCommandBuffer [source | sink]
    001: kCopy         [source       | next=002 (1)] kCopy
    002: kCustomKernel [x] loop grid: [2048, 1, 1] threads: [128, 1, 1]  shared
    003: kCustomKernel [x] loop grid: [1, 2, 1] threads: [2, 1, 1]  shared_memory: 0
"""


def test_instructions_and_loops_of_ptx():
    (name, body), *others = _machine_code.ENTRY.findall(PTX)
    assert name == "loop" and not others
    assert _machine_code._ptx(body) == 4
    assert _machine_code._repeats(body)
    assert not _machine_code._repeats(body.replace("$L__BB0_1:", ""))


def test_instructions_of_machine_code():
    [(name, code)] = _machine_code.SECTION.findall(LISTING)
    assert name == "loop"
    found = _machine_code._machine(code)
    assert found == {"LDC": 1, "FMNMX": 1, "EXIT": 1, "BRA": 1}


def test_what_ptxas_says():
    said = """ptxas info    : Compiling entry function 'loop' for 'sm_90a'
ptxas info    : Function properties for loop
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 29 registers, used 0 barriers
"""
    assert _machine_code.PTXAS.findall(said) == [("loop", "4", "12", "29")]


def test_launches(tmp_path):
    (tmp_path / "m.thunk_sequence_after_thunk_passes.txt").write_text(SEQUENCE)
    found = _machine_code.launches(tmp_path)
    assert found == [Launch("loop", 2048 * 128), Launch("loop", 4)]


@pytest.mark.parametrize(
    ("machine", "clocks"),
    [
        ({"FMUL": 128}, 1.0),
        ({"LOP3": 64}, 1.0),
        ({"MUFU": 16}, 1.0),
        ({"FMUL": 64, "IMAD": 32}, 1.0),
        ({"LDG": 128}, 1.0),
        ({"FMUL": 64, "LOP3": 64}, 1.0),
        ({"UIADD3": 128}, 1.0),
    ],
    ids=str,
)
def test_the_slowest_unit_is_the_bound(machine, clocks):
    assert _roofline.clocks(machine, _targets.H100) == clocks


def test_the_bound_by_instructions_of_a_device():
    """132 multiprocessors of 1.98 GHz, 64 integer instructions each."""
    kernels = {"loop": Kernel(16, {"LOP3": 16}, 10, 0, False)}
    found = _roofline.picoseconds([Launch("loop", 250)], kernels, _targets.H100, 1000)
    assert found == pytest.approx(1e12 * 4 / (64 * 132 * 1.98e9))
    kernels["loop"] = kernels["loop"]._replace(machine={})
    found = _roofline.picoseconds([Launch("loop", 250)], kernels, _targets.H100, 1000)
    assert math.isnan(found)


def test_what_remains_of_the_bound_by_bytes():
    assert _roofline.bounds(4.0, 2.0, 4.0) == (4.0, 2.0, 1.0)
    assert _roofline.bounds(4.0, 2.0, 4.0).higher == "bytes"
    assert _roofline.bounds(4.0, 4.05, 4.0).higher == "both"
    assert _roofline.bounds(4.0, 8.0, 4.0).higher == "instructions"
    assert _roofline.bounds(4.0, 8.0, 4.0).share == 0.5
    assert _roofline.bounds(8.0, math.nan, 4.0).share == 0.5


def made(name, target="h100", **changes):
    fields = dict(
        target=target,
        tree="tree",
        contender=name,
        leaves=1,
        parameters=1000,
        bytes_moved=14.0,
        limit=14.0,
        kernels=98,
        temporary_bytes=33_780_224,
        not_aliased=0,
        ptx=130.8,
        machine=130.0,
        registers=128,
        spills=0,
        cycles=math.nan,
        bounds=_roofline.bounds(4.176, 4.887, 4.176),
        compile_seconds=117.5,
        collectives={"reduce-scatter": (1, 16777216.0)},
    )
    return CompiledRow(**{**fields, **changes})


@pytest.mark.parametrize("target", ("h100", "h100x8", "tpu-v5e", "tpu-v5e-4"))
def test_the_tables_fit_80_columns(target):
    rows = [made("optax.flatten(optax.rmsprop)", target), made("rmsprop", target)]
    text = _compiled_tables.text(rows)
    assert max(map(len, text.splitlines())) <= 80
    assert "34M" in text
    assert ("not times" in text) == (_targets.TARGETS[target].count == 1)


def test_pages_and_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [made("rmsprop"), made("rmsprop", "tpu-v5e")]
    lines = _compiled_tables.markdown(rows).splitlines()
    assert "| rmsprop | 4.176 | 4.887 | instructions | 85% |" in lines
    assert "| contender | by bytes | estimate | share |" in lines
    _compiled_tables.plot(tmp_path / "x.png", rows)
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("target", "command_"),
    [
        ("h100", "pip install jax-cuda12-plugin=="),
        ("tpu-v5e", 'pip install "jax[tpu]=='),
    ],
)
def test_a_compiler_that_is_missing(monkeypatch, capsys, target, command_):
    monkeypatch.setattr(_targets, "_installed", lambda module: False)
    _targets.tool.cache_clear()
    assert command.main(["--compiled", target]) == 1
    said = capsys.readouterr().err
    assert said.startswith("The compiler for ") and command_ in said
    assert said.count("\n") == 1
    _targets.tool.cache_clear()


def test_the_command(monkeypatch, tmp_path, capsys):
    """Tables and files, and what failed."""

    def measure(target, tree, name, *rest):
        if name == "optax.sgd":
            raise RuntimeError("no memory")
        return made(name, target, tree=tree)

    monkeypatch.setattr(_compiled_command, "missing_compiler", lambda target: None)
    monkeypatch.setattr(_compiled_command, "measure_compiled", measure)
    files = [tmp_path / f"found.{x}" for x in ("json", "md")]
    arguments = ["--compiled", "h100", "--contenders", "rmsprop", "optax.sgd"]
    arguments += ["--json", str(files[0]), "--markdown", str(files[1])]
    assert command.main(arguments) == 0
    said = capsys.readouterr().out
    assert "32 x 1024^2, NVIDIA H100 80GB HBM3" in said
    assert "not compiled: optax.sgd on 32 x 1024^2 for h100; RuntimeError: no" in said
    assert '"share": 0.85' in files[0].read_text()
    assert "| rmsprop |" in files[1].read_text()


def test_every_description_has_its_numbers_and_a_source():
    for target in _targets.TARGETS.values():
        assert "/" in target.device.source
        if isinstance(target.device, _targets.Gpu):
            text = target.device.description
            assert f'"{target.device.name}"' in text
            assert text.count("{") == text.count("}")


def test_spaces_are_numbers_of_xla():
    assert _programs.arrays("(pred[7]{0}, s4[8]{0:S(5)}, token[])") == [
        (7, 0),
        (4, 5),
        (0, 0),
    ]
