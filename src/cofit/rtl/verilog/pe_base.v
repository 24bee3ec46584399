// Standard flow, two multipliers: form the weight mu + sigma * eps, then multiply it by x.
// A register stands between them, so that a cycle holds one multiplication, as in pe_dm.
module pe_base #(
    parameter FRACTION = 6,  // eps is scaled by 2**FRACTION
    parameter SHIFT = 6,     // bits dropped from sigma * eps; 0 keeps the weight exact
    parameter ACC = 28
) (
    input clk,
    input signed [7:0] mu,
    input signed [7:0] sigma,
    input signed [7:0] x,
    input signed [7:0] eps,
    input adds,    // a cycle after the operands
    input begins,  // likewise: a new sum
    output reg signed [ACC-1:0] sum
);
    wire signed [15:0] scaled = sigma * eps;
    reg signed [15-SHIFT:0] weight;
    reg signed [7:0] held;
    wire signed [ACC-1:0] product = weight * held;
    wire signed [ACC-1:0] from = begins ? {ACC{1'b0}} : sum;

    always @(posedge clk) begin
        weight <= (mu <<< (FRACTION - SHIFT)) + (scaled >>> SHIFT);
        held <= x;
        if (adds) sum <= from + product;
    end
endmodule
