// Decomposition and memorisation, one multiplier. Per block of rows: beta = sigma * x goes to the
// memory, eta = sum of mu * x to a register; then per voter the sum of beta * eps on top of eta.
module pe_dm #(
    parameter FRACTION = 6,  // eps is scaled by 2**FRACTION
    parameter DROP = 0,      // bits dropped from beta; 0 keeps it exact
    parameter BETA = 15,
    parameter BLOCK = 1,
    parameter ROW = 1,
    parameter ETA = 22,
    parameter ACC = 28
) (
    input clk,
    input signed [7:0] mu,
    input signed [7:0] sigma,
    input signed [7:0] x,
    input signed [7:0] eps,
    input signed [BETA-1:0] beta,
    input makes_beta,
    input makes_eta,
    input adds,    // a cycle after the operands
    input begins,  // likewise: a new sum, of mu * x where `of_eta`, else on top of eta
    input of_eta,
    input ends,
    input [ROW-1:0] row,
    output signed [BETA-1:0] made,  // likewise: beta
    output reg signed [ACC-1:0] sum
);
    wire signed [BETA-1:0] left = makes_beta ? sigma : makes_eta ? mu : beta;
    wire signed [7:0] right = makes_beta || makes_eta ? x : eps;
    reg signed [BETA+7:0] product;
    reg signed [ETA-1:0] eta[0:BLOCK-1];
    wire signed [ETA-1:0] memorised = eta[row];
    wire signed [ACC-1:0] start;
    generate
        if (DROP > 0) begin : rounded
            wire signed [BETA+7:0] half = product + (1 << (DROP - 1));
            assign made = half >>> DROP;
        end else begin : exact
            assign made = product;
        end
        if (DROP > FRACTION) begin : coarser
            assign start = memorised >>> (DROP - FRACTION);
        end else begin : finer
            assign start = {{ACC{memorised[ETA-1]}}, memorised} << (FRACTION - DROP);
        end
    endgenerate
    wire signed [ACC-1:0] from = !begins ? sum : of_eta ? {ACC{1'b0}} : start;
    wire signed [ACC-1:0] next = from + product;

    always @(posedge clk) begin
        product <= left * right;
        if (adds) begin
            sum <= next;
            if (of_eta && ends) eta[row] <= next[ETA-1:0];
        end
    end
endmodule
