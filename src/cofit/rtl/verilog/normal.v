// Standard normal numbers, scaled by 2**FRACTION and clipped to a byte.
// A value is the sum of twelve bytes of a shift register, s[n + 97] = s[n] ^ s[n + 6] (a primitive
// trinomial), which moves on by 96 bits per draw, so that no bit is used twice. The sum has mean
// 1530 and standard deviation 256; half of what is shifted out is added before the shift.
module normal #(
    parameter FRACTION = 6,
    parameter [96:0] SEED = 1
) (
    input clk,
    input reset,
    input draw,
    output reg signed [7:0] value
);
    localparam signed [12:0] CENTRE = 1530 - (1 << (7 - FRACTION));

    reg [96:0] state;
    wire [95:0] fresh;
    assign fresh[90:0] = state[90:0] ^ state[96:6];
    assign fresh[95:91] = state[95:91] ^ fresh[4:0];

    reg [11:0] sum;
    integer k;
    always @* begin
        sum = 0;
        for (k = 0; k < 12; k = k + 1) sum = sum + state[8 * k +: 8];
    end
    wire signed [12:0] centred = $signed({1'b0, sum}) - CENTRE;
    wire signed [12:0] scaled = centred >>> (8 - FRACTION);

    always @(posedge clk) begin
        if (reset) state <= SEED;
        else if (draw) state <= {fresh, state[96]};
        if (draw) value <= scaled > 127 ? 8'sd127 : scaled < -128 ? -8'sd128 : scaled[7:0];
    end
endmodule
