// The exact layers of hpcmcodec/ops/exact.py on a CPU: the same results to the bit, in integers where the
// reference has float64. Compile with -ffp-contract=off: a fused multiply-add would round once where the
// reference rounds twice.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

// A panel is PANEL columns of the weights, two inputs of one column side by side: what one instruction takes.
constexpr long PANEL = 32;
constexpr long ROWS = 6;

long pairs_of(long inputs) { return (inputs + 1) / 2; }

long up(long count, long to) { return (count + to - 1) / to * to; }

// sums[r][c] = sum over inputs of a[r] * panel[c], for `ROWS` rows of `pairs` pairs each.
void multiply(const int16_t* a, long pairs, const int16_t* panel, int32_t (*sums)[PANEL]) {
#if defined(__AVX512BW__)
    __m512i total[ROWS][2];
    for (auto& row : total) row[0] = row[1] = _mm512_setzero_si512();
    for (long p = 0; p < pairs; ++p) {
        const __m512i left = _mm512_loadu_si512(panel + 2 * PANEL * p);
        const __m512i right = _mm512_loadu_si512(panel + 2 * PANEL * p + PANEL);
        for (long r = 0; r < ROWS; ++r) {
            int32_t both;
            std::memcpy(&both, a + 2 * (r * pairs + p), sizeof both);
            const __m512i x = _mm512_set1_epi32(both);
#if defined(__AVX512VNNI__)
            total[r][0] = _mm512_dpwssd_epi32(total[r][0], x, left);
            total[r][1] = _mm512_dpwssd_epi32(total[r][1], x, right);
#else
            total[r][0] = _mm512_add_epi32(total[r][0], _mm512_madd_epi16(x, left));
            total[r][1] = _mm512_add_epi32(total[r][1], _mm512_madd_epi16(x, right));
#endif
        }
    }
    for (long r = 0; r < ROWS; ++r) {
        _mm512_storeu_si512(sums[r], total[r][0]);
        _mm512_storeu_si512(sums[r] + PANEL / 2, total[r][1]);
    }
#elif defined(__AVX2__)
    for (long first = 0; first < PANEL; first += 16) {
        __m256i total[ROWS][2];
        for (auto& row : total) row[0] = row[1] = _mm256_setzero_si256();
        for (long p = 0; p < pairs; ++p) {
            const auto* at = reinterpret_cast<const __m256i*>(panel + 2 * (PANEL * p + first));
            const __m256i left = _mm256_loadu_si256(at), right = _mm256_loadu_si256(at + 1);
            for (long r = 0; r < ROWS; ++r) {
                int32_t both;
                std::memcpy(&both, a + 2 * (r * pairs + p), sizeof both);
                const __m256i x = _mm256_set1_epi32(both);
                total[r][0] = _mm256_add_epi32(total[r][0], _mm256_madd_epi16(x, left));
                total[r][1] = _mm256_add_epi32(total[r][1], _mm256_madd_epi16(x, right));
            }
        }
        for (long r = 0; r < ROWS; ++r) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums[r] + first), total[r][0]);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums[r] + first + 8), total[r][1]);
        }
    }
#else
    for (long r = 0; r < ROWS; ++r) {
        for (long c = 0; c < PANEL; ++c) sums[r][c] = 0;
        for (long p = 0; p < pairs; ++p) {
            const int32_t x0 = a[2 * (r * pairs + p)], x1 = a[2 * (r * pairs + p) + 1];
            const int16_t* w = panel + 2 * PANEL * p;
            for (long c = 0; c < PANEL; ++c) sums[r][c] += x0 * w[2 * c] + x1 * w[2 * c + 1];
        }
    }
#endif
}

void pack(const int8_t* weight, long outputs, long inputs, long panel, int16_t* packed) {
    for (long p = 0; p < pairs_of(inputs); ++p)
        for (long c = 0; c < PANEL; ++c)
            for (long half = 0; half < 2; ++half) {
                const long column = panel * PANEL + c, input = 2 * p + half;
                const bool inside = column < outputs && input < inputs;
                *packed++ = inside ? weight[column * inputs + input] : 0;
            }
}

}  // namespace

// y = clip(round((x weight^T * step + bias) * unit), most) / unit, not rounded where there is no unit; see
// exact_linear in ops/exact.py. This and all below return 1 where memory is lacking, else 0.
//
// x: rows x inputs, `stride` apart, integers / x_unit of at most 16 bits. weight: outputs x inputs.
// step, bias, unit, most: per output. y: rows x outputs.
extern "C" int hpcm_exact_linear(const double* x, long rows, long inputs, long stride, double x_unit,
                                  const int8_t* weight, const double* step, const double* bias,
                                  const double* unit, const double* most, long outputs, double* y) {
    const long pairs = pairs_of(inputs), panels = up(outputs, PANEL) / PANEL, tiles = up(rows, ROWS) / ROWS;
    std::unique_ptr<int16_t[]> packed(new (std::nothrow) int16_t[panels * PANEL * pairs * 2]);
    std::unique_ptr<int16_t[]> whole(new (std::nothrow) int16_t[tiles * ROWS * pairs * 2]);
    std::unique_ptr<double[]> back(new (std::nothrow) double[outputs]);
    if (!packed || !whole || !back) return 1;
    if (unit)
        for (long c = 0; c < outputs; ++c) back[c] = 1 / unit[c];
    const double scale = 1 / x_unit;

#pragma omp parallel
    {
#pragma omp for schedule(static) nowait
        for (long p = 0; p < panels; ++p) pack(weight, outputs, inputs, p, &packed[p * PANEL * pairs * 2]);
#pragma omp for schedule(static)
        for (long r = 0; r < tiles * ROWS; ++r) {
            int16_t* to = &whole[r * pairs * 2];
            if (r < rows)
                for (long i = 0; i < inputs; ++i)
                    to[i] = static_cast<int16_t>(std::min(std::max(-32768.0, x[r * stride + i] * x_unit), 32767.0));
            else
                std::memset(to, 0, sizeof(int16_t) * inputs);
            if (inputs % 2) to[inputs] = 0;
        }
#pragma omp for schedule(static)
        for (long t = 0; t < tiles; ++t)
            for (long p = 0; p < panels; ++p) {
                alignas(64) int32_t sums[ROWS][PANEL];
                multiply(&whole[t * ROWS * pairs * 2], pairs, &packed[p * PANEL * pairs * 2], sums);
                const long first = p * PANEL, count = std::min(PANEL, outputs - first);
                for (long r = 0; r < std::min(ROWS, rows - t * ROWS); ++r) {
                    double* to = y + (t * ROWS + r) * outputs + first;
                    for (long c = 0; c < count; ++c)
                        to[c] = sums[r][c] * scale * step[first + c] + bias[first + c];
                    if (!unit) continue;
                    for (long c = 0; c < count; ++c) {
                        const double value = std::nearbyint(to[c] * unit[first + c]), limit = most[first + c];
                        to[c] = std::min(std::max(value, -limit), limit) * back[first + c];
                    }
                }
            }
    }
    return 0;
}

namespace {

constexpr long LANES = 8;

// A function's values, `steps` to 1 from zero on, and the last one beyond its end.
struct Table {
    const double* values;
    double last, steps;

    Table(const double* values, long entries, double steps)
        : values(values), last(static_cast<double>(entries - 1)), steps(steps) {}

    // The order of max's arguments matters: of 0 and what is no number, it gives the first.
    double at(double x) const {
        return values[static_cast<int32_t>(std::min(std::max(0.0, std::nearbyint(x * steps)), last))];
    }
};

}  // namespace

// See exact_biwkv in ops/exact.py. table: exp(-i / steps). w, u: channels. k, v: batch x tokens x channels,
// tokens `stride` apart; y: the same, dense. bits: of the weights.
extern "C" int hpcm_exact_biwkv(const double* table, long entries, double steps, const double* w,
                                 const double* u, const double* k, const double* v, long stride, long batch,
                                 long tokens, long channels, long bits, double* y) {
    const Table exp_minus(table, entries, steps);
    const double unit = std::ldexp(1.0, static_cast<int>(bits)), count = static_cast<double>(tokens);
    const long groups = up(channels, LANES) / LANES;
    int failed = 0;
#pragma omp parallel
    {
        const long size_of_each = tokens * LANES;
        std::unique_ptr<double[]> scratch(new (std::nothrow) double[5 * size_of_each]);
        double* const up_whole = scratch.get();
        double *const down_whole = up_whole + size_of_each, *const own = down_whole + size_of_each;
        double *const ahead = own + size_of_each, *const behind = ahead + size_of_each;
#pragma omp for schedule(static) collapse(2)
        for (long b = 0; b < batch; ++b)
            for (long g = 0; g < groups; ++g) {
                if (!scratch) {
#pragma omp atomic write
                    failed = 1;
                    continue;
                }
                const long first = g * LANES, lanes = std::min(LANES, channels - first);
                const double* keys = k + b * tokens * stride + first;
                const double* values = v + b * tokens * stride + first;
                double* to = y + b * tokens * channels + first;
                double highest[LANES], self[LANES], size[LANES];
                bool rising[LANES];
                for (long c = 0; c < lanes; ++c) {
                    highest[c] = keys[c];
                    const double x = (u[first + c] - w[first + c]) / count, near = exp_minus.at(std::fabs(x));
                    self[c] = x > 0 ? 1 / near : near;
                    size[c] = std::fabs(w[first + c]);
                    rising[c] = w[first + c] > 0;
                }
                for (long t = 1; t < tokens; ++t)
                    for (long c = 0; c < lanes; ++c) highest[c] = std::max(highest[c], keys[t * stride + c]);

                double down_sum[LANES] = {}, down_values[LANES] = {};
                for (long t = 0; t < tokens; ++t) {
                    const double place = static_cast<double>(t) / count, rest = 1 - place;
                    for (long c = 0; c < lanes; ++c) {
                        const long i = t * LANES + c;
                        const double falls = place * size[c], rises = rest * size[c];
                        const double before = exp_minus.at(rising[c] ? rises : falls);
                        const double after = exp_minus.at(rising[c] ? falls : rises);
                        const double weight = exp_minus.at(highest[c] - keys[t * stride + c]);
                        own[i] = self[c] * weight;
                        up_whole[i] = std::nearbyint(weight * before * unit);
                        down_whole[i] = std::nearbyint(weight * after * unit);
                        ahead[i] = before * unit;
                        behind[i] = after * unit;
                        down_sum[c] += down_whole[i];
                        down_values[c] += down_whole[i] * values[t * stride + c];
                    }
                }
                double up_sum[LANES] = {}, up_values[LANES] = {};
                for (long t = 0; t < tokens; ++t)
                    for (long c = 0; c < lanes; ++c) {
                        const long i = t * LANES + c;
                        const double value = values[t * stride + c];
                        down_sum[c] -= down_whole[i];
                        down_values[c] -= down_whole[i] * value;
                        const double below = own[i] + up_sum[c] / ahead[i] + down_sum[c] / behind[i];
                        const double above =
                            own[i] * value + up_values[c] / ahead[i] + down_values[c] / behind[i];
                        to[t * channels + c] = above / below;
                        up_sum[c] += up_whole[i];
                        up_values[c] += up_whole[i] * value;
                    }
            }
    }
    return failed;
}

// x * sigmoid(r); see exact_gate in ops/exact.py. rows x channels, of r `stride` apart, of x and y dense.
extern "C" int hpcm_exact_gate(const double* table, long entries, double steps, double reach,
                                const double* x, const double* r, long stride, long rows, long channels,
                                double* y) {
    const Table sigmoid(table, entries, steps);
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; ++row)
        for (long c = 0; c < channels; ++c)
            y[row * channels + c] = x[row * channels + c] * sigmoid.at(r[row * stride + c] + reach);
    return 0;
}

// See exact_depthwise in ops/exact.py. x, y: batch x height x width x channels, dense; kernel: size * size x
// channels. Without a unit (0) nothing is rounded.
extern "C" int hpcm_exact_depthwise(const double* x, long batch, long height, long width, long channels,
                                     const double* kernel, long size, const double* step, const double* bias,
                                     double unit, double most, double* y) {
    constexpr long BLOCK = 32;
    const long reach = size / 2;
    const double back = unit > 0 ? 1 / unit : 0;
#pragma omp parallel for schedule(static) collapse(2)
    for (long b = 0; b < batch; ++b)
        for (long row = 0; row < height; ++row)
            for (long first = 0; first < channels; first += BLOCK) {
                const long lanes = std::min(BLOCK, channels - first);
                for (long column = 0; column < width; ++column) {
                    double total[BLOCK] = {};
                    const long left = std::max(0L, reach - column);
                    const long right = std::min(size, width + reach - column);
                    for (long i = std::max(0L, reach - row); i < std::min(size, height + reach - row); ++i)
                        for (long j = left; j < right; ++j) {
                            const long from = (b * height + row + i - reach) * width + column + j - reach;
                            const double* in = x + from * channels + first;
                            const double* tap = kernel + (i * size + j) * channels + first;
                            if (lanes == BLOCK)
                                for (long c = 0; c < BLOCK; ++c) total[c] += in[c] * tap[c];
                            else
                                for (long c = 0; c < lanes; ++c) total[c] += in[c] * tap[c];
                        }
                    double* to = y + ((b * height + row) * width + column) * channels + first;
                    for (long c = 0; c < lanes; ++c) {
                        const double value = total[c] * step[first + c] + bias[first + c];
                        const double whole = std::min(std::max(std::nearbyint(value * unit), -most), most);
                        to[c] = unit > 0 ? whole * back : value;
                    }
                }
            }
    return 0;
}
